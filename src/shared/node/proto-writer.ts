/**
 * Protocol buffers by hand: https://protobuf.dev/programming-guides/encoding. For messages of which a few fields are needed.
 */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

/** The fields of a message, in a buffer that grows. */
export class ProtoWriter {
  private buffer = Buffer.alloc(1024);
  private length = 0;

  clear(): void {
    this.length = 0;
  }

  /** A copy of what was written. */
  bytes(): Uint8Array {
    return Uint8Array.prototype.slice.call(this.buffer, 0, this.length);
  }

  /** @param value not negative */
  integer(field: number, value: number): void {
    this.tag(field, VARINT);
    this.varint(value);
  }

  double(field: number, value: number): void {
    this.tag(field, FIXED64);
    this.rawDouble(value);
  }

  float(field: number, value: number): void {
    this.tag(field, FIXED32);
    this.reserve(4);
    this.length = this.buffer.writeFloatLE(value, this.length);
  }

  /** A repeated field, packed. */
  doubles(field: number, values: readonly number[]): void {
    this.tag(field, LENGTH_DELIMITED);
    this.varint(8 * values.length);
    for (const value of values) this.rawDouble(value);
  }

  string(field: number, text: string): void {
    this.message(field, () => {
      this.reserve(3 * text.length);
      this.length += this.buffer.write(text, this.length);
    });
  }

  blob(field: number, bytes: Uint8Array): void {
    this.tag(field, LENGTH_DELIMITED);
    this.varint(bytes.length);
    this.reserve(bytes.length);
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** A field whose bytes are what `write` adds. */
  message(field: number, write: (writer: ProtoWriter) => void): void {
    this.tag(field, LENGTH_DELIMITED);
    // One byte is enough for the length of most; what follows is moved where it is not.
    this.reserve(1);
    const start = ++this.length;
    write(this);
    const end = this.length;
    const numBytes = end - start;
    this.length = start - 1;
    if (numBytes >= 0x80) {
      const shift = Math.floor(Math.log2(numBytes) / 7);
      this.length = end;
      this.reserve(shift);
      this.buffer.copyWithin(start + shift, start, end);
      this.length = start - 1;
    }
    this.varint(numBytes);
    this.length += numBytes;
  }

  private tag(field: number, wireType: number): void {
    this.varint(8 * field + wireType);
  }

  private varint(value: number): void {
    this.reserve(10);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) {
      this.buffer[this.length++] = (rest % 0x80) | 0x80;
    }
    this.buffer[this.length++] = rest;
  }

  private rawDouble(value: number): void {
    this.reserve(8);
    this.length = this.buffer.writeDoubleLE(value, this.length);
  }

  private reserve(numBytes: number): void {
    if (this.length + numBytes <= this.buffer.length) return;
    const larger = Buffer.alloc(2 * (this.length + numBytes));
    // All of it: what has been written may lie behind a length that is still to be put in.
    this.buffer.copy(larger);
    this.buffer = larger;
  }
}
