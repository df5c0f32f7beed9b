/** The formats that `lockstep export` writes; separate from the writers, since the options of all commands are loaded together. */
export const EXPORT_FORMATS = ['onnx', 'pytorch', 'tfjs', 'js'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];
