/** Parquet files as Hugging Face's `datasets` writes them: image {bytes, path}, label, and the features as metadata. */
import { parquetWriteBuffer } from 'hyparquet-writer';

export interface ParquetRow {
  readonly bytes: Uint8Array | null;
  readonly label: number | null;
}

export interface ParquetOptions {
  /** Of the classes; null for a file that says nothing of them. */
  readonly classNames?: readonly string[] | null;
  /** Text in place of the features. */
  readonly features?: string;
  readonly pictureName?: string;
  readonly labelName?: string;
  readonly rowsPerGroup?: number;
  readonly codec?: 'SNAPPY' | 'GZIP' | 'UNCOMPRESSED';
  /** Packs pages in place of the codec. */
  readonly compressors?: Readonly<Record<string, (page: Uint8Array) => Uint8Array>>;
}

export function parquet(rows: readonly ParquetRow[], options: ParquetOptions = {}): Uint8Array {
  const { classNames = null, pictureName = 'image', labelName = 'label' } = options;
  const { rowsPerGroup = 100, codec = 'SNAPPY', compressors } = options;
  const features = {
    [pictureName]: { _type: 'Image' },
    [labelName]: { names: classNames, _type: 'ClassLabel' },
  };
  const value = options.features ?? JSON.stringify({ info: { features } });
  const buffer = parquetWriteBuffer({
    columnData: [
      {
        name: pictureName,
        data: rows.map(({ bytes }, row) => (bytes === null ? null : { bytes, path: `${row}.png` })),
      },
      {
        name: labelName,
        data: rows.map(({ label }) => (label === null ? null : BigInt(label))),
      },
    ],
    schema: [
      { name: 'root', num_children: 2 },
      { name: pictureName, num_children: 2, repetition_type: 'OPTIONAL' },
      { name: 'bytes', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' },
      { name: 'path', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
      { name: labelName, type: 'INT64', repetition_type: 'OPTIONAL' },
    ],
    rowGroupSize: rowsPerGroup,
    codec,
    ...(compressors && { compressors }),
    ...(classNames !== null || options.features !== undefined
      ? { kvMetadata: [{ key: 'huggingface', value }] }
      : {}),
  });
  return new Uint8Array(buffer);
}
