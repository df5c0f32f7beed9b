/** The formats that `lockstep export` writes; apart from what writes them, as every command's options are read at once. */
export const EXPORT_FORMATS = ['onnx', 'pytorch', 'tfjs', 'js'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];
