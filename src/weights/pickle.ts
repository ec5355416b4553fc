/**
 * A reader of pickles that knows numbers, texts, lists, dictionaries and PyTorch's tensors, and nothing else.
 *
 * A pickle is a program for a stack machine, and two of its instructions import and call anything at all (Python's
 * `pickletools` documents them). Here nothing is ever called: a name is looked up in a list of a few that stand for tensors
 * and their storages (`pickled.ts`), and makes a plain object; every other name, and every instruction that is not below, is
 * an error. Each value, entry of the memo and text takes bytes of the pickle, whose length the caller bounds.
 */

import { quoted } from "../platform/quoted.ts";
import { WeightsError } from "./errors.ts";
import {
  INERT,
  isCount,
  Malformed,
  named,
  PARAMETER_DICTIONARY,
  ParameterDictionary,
  type Pickled,
  PickledStorage,
  StorageType,
} from "./pickled.ts";

class Mark {}
const MARK = new Mark();

/** Instructions between two chances for others to run. */
const TURN = 8192;

/**
 * Reads the pickle that begins at `start` of `bytes`.
 * @param file its name in messages
 * @returns its value, and where it ends
 * @throws WeightsError "weights-pickle" for anything that is not a value of the kinds above
 */
export function* unpickle(
  bytes: Uint8Array,
  file: string,
  start = 0,
): Generator<void, { value: Pickled; end: number }, void> {
  const machine = new Unpickler(bytes, file, start);
  for (let count = 1; !machine.isDone; count++) {
    machine.step();
    if (count % TURN === 0) yield;
  }
  return { value: machine.result(), end: machine.position };
}

class Unpickler {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #file: string;
  readonly #stack: (Pickled | Mark)[] = [];
  readonly #memo = new Map<number, Pickled>();
  position: number;
  isDone = false;

  constructor(bytes: Uint8Array, file: string, start: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#file = file;
    this.position = start;
  }

  result(): Pickled {
    return this.pop();
  }

  step(): void {
    const code = this.unsigned(1);
    const instruction = INSTRUCTIONS[code];
    if (instruction === undefined) {
      const name = FORBIDDEN[code];
      const shown = name === undefined ? `the instruction ${code}` : `the instruction ${name}`;
      throw this.#refused(`uses ${shown}, which no file of tensors needs; it is not read, since it may run a program`);
    }
    instruction(this);
  }

  #refused(reason: string): WeightsError {
    return new WeightsError("weights-pickle", `is a pickle that ${reason}`, { file: this.#file });
  }

  signed(): number {
    return this.#take(4).getInt32(0, true);
  }

  double(): number {
    return this.#take(8).getFloat64(0, false);
  }

  text(length: number): string {
    return new TextDecoder().decode(this.slice(length));
  }

  latin(length: number): string {
    return Array.from(this.slice(length), (byte) => String.fromCharCode(byte)).join("");
  }

  mark(): void {
    this.#stack.push(MARK);
  }

  /** Stores the topmost value; left out: as the next one. */
  remember(index = this.#memo.size): void {
    this.#memo.set(index, this.top());
  }

  end(): void {
    this.isDone = true;
  }

  refuse(reason: string): never {
    throw this.#refused(reason);
  }

  push(value: Pickled): void {
    this.#stack.push(value);
  }

  pop(): Pickled {
    const value = this.#stack.pop();
    if (value === undefined || value instanceof Mark) throw this.#refused("takes a value where there is none");
    return value;
  }

  top(): Pickled {
    const value = this.#stack.at(-1);
    if (value === undefined || value instanceof Mark) throw this.#refused("takes a value where there is none");
    return value;
  }

  toMark(): Pickled[] {
    const at = this.#stack.lastIndexOf(MARK);
    if (at === -1) throw this.#refused("ends a list that was not begun");
    return this.#stack.splice(at).slice(1) as Pickled[];
  }

  #take(length: number): DataView {
    const { position } = this;
    if (!(length >= 0 && position + length <= this.#bytes.byteLength))
      throw this.#refused(`has ${length} bytes at ${position}, beyond its end`);
    this.position += length;
    return new DataView(this.#view.buffer, this.#view.byteOffset + position, length);
  }

  slice(length: number): Uint8Array {
    const { buffer, byteOffset, byteLength } = this.#take(length);
    return new Uint8Array(buffer, byteOffset, byteLength);
  }

  /** A little-endian number of 1, 2, 4 or 8 bytes. */
  unsigned(length: number): number {
    const view = this.#take(length);
    if (length === 1) return view.getUint8(0);
    if (length === 2) return view.getUint16(0, true);
    if (length === 4) return view.getUint32(0, true);
    return Number(view.getBigUint64(0, true));
  }

  long(length: number): number {
    if (length > 16) throw this.#refused(`has a number of ${length} bytes`);
    const view = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(i));
    return Number(length === 0 ? 0n : BigInt.asIntN(8 * length, value));
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.position);
    if (end === -1) throw this.#refused("has a line without an end");
    const line = new TextDecoder().decode(this.#bytes.subarray(this.position, end));
    this.position = end + 1;
    return line;
  }

  recalled(index: number): Pickled {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.#refused(`recalls value ${index}, which it has not stored`);
    return value;
  }

  named(module: string, name: string): Pickled {
    const known = named(module, name);
    if (known !== undefined) return known;
    throw this.#refused(
      `names ${quoted(`${module}.${name}`)}, which is no part of a tensor: it is not read, since it may run a program`,
    );
  }

  call(callable: Pickled, values: Pickled): Pickled {
    if (callable === INERT) return INERT;
    if (typeof callable !== "function" || !Array.isArray(values))
      throw this.#refused("calls a thing that is no tensor's");
    try {
      return callable(values);
    } catch (error) {
      throw error instanceof Malformed ? this.#refused(error.message) : error;
    }
  }

  /** `('storage', type, key, location, count)` */
  stored(id: Pickled): PickledStorage {
    const [kind, type, key, , count] = Array.isArray(id) ? id : [];
    const isSound = kind === "storage" && type instanceof StorageType && typeof key === "string" && isCount(count);
    if (!isSound) throw this.#refused("refers to something that is no storage of numbers");
    return new PickledStorage(type.type, key, count);
  }

  set(target: Pickled, pairs: readonly Pickled[]): void {
    if (target === INERT) return;
    if (!(target instanceof Map) || pairs.length % 2 !== 0) throw this.#refused("sets entries of no dictionary");
    for (let i = 0; i < pairs.length; i += 2) target.set(pairs[i], pairs[i + 1]!);
  }

  append(target: Pickled, values: readonly Pickled[]): void {
    if (target === INERT) return;
    if (!Array.isArray(target)) throw this.#refused("appends to no list");
    for (const value of values) target.push(value);
  }
}

/** The newest protocol that `pickletools` documents. */
const LATEST_PROTOCOL = 5;

/** The effect of each instruction, by its byte (`pickletools.opcodes`). */
const INSTRUCTIONS: Readonly<Record<number, (machine: Unpickler) => void>> = {
  // PROTO, FRAME, STOP
  128: (m) => m.unsigned(1) <= LATEST_PROTOCOL || m.refuse("is of a protocol that is not known"),
  149: (m) => m.unsigned(8),
  46: (m) => m.end(),
  // MARK, POP, POP_MARK, DUP
  40: (m) => m.mark(),
  48: (m) => m.pop(),
  49: (m) => m.toMark(),
  50: (m) => m.push(m.top()),
  // NONE, NEWTRUE, NEWFALSE
  78: (m) => m.push(null),
  136: (m) => m.push(true),
  137: (m) => m.push(false),
  // BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT
  74: (m) => m.push(m.signed()),
  75: (m) => m.push(m.unsigned(1)),
  77: (m) => m.push(m.unsigned(2)),
  138: (m) => m.push(m.long(m.unsigned(1))),
  139: (m) => m.push(m.long(m.unsigned(4))),
  71: (m) => m.push(m.double()),
  // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, BINSTRING, SHORT_BINSTRING, BINBYTES, SHORT_BINBYTES
  88: (m) => m.push(m.text(m.unsigned(4))),
  140: (m) => m.push(m.text(m.unsigned(1))),
  141: (m) => m.push(m.text(m.unsigned(8))),
  84: (m) => m.push(m.latin(m.unsigned(4))),
  85: (m) => m.push(m.latin(m.unsigned(1))),
  66: (m) => m.push(m.slice(m.unsigned(4))),
  67: (m) => m.push(m.slice(m.unsigned(1))),
  // EMPTY_LIST, APPEND, APPENDS, LIST
  93: (m) => m.push([]),
  97: (m) => {
    const value = m.pop();
    m.append(m.top(), [value]);
  },
  101: (m) => {
    const values = m.toMark();
    m.append(m.top(), values);
  },
  108: (m) => m.push(m.toMark()),
  // EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3
  41: (m) => m.push([]),
  116: (m) => m.push(m.toMark()),
  133: (m) => m.push([m.pop()]),
  134: (m) => m.push([m.pop(), m.pop()].reverse()),
  135: (m) => m.push([m.pop(), m.pop(), m.pop()].reverse()),
  // EMPTY_DICT, SETITEM, SETITEMS
  125: (m) => m.push(new Map()),
  115: (m) => {
    const [value, key] = [m.pop(), m.pop()];
    m.set(m.top(), [key, value]);
  },
  117: (m) => {
    const pairs = m.toMark();
    m.set(m.top(), pairs);
  },
  // PUT is written by protocol 0 alone; BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
  113: (m) => m.remember(m.unsigned(1)),
  114: (m) => m.remember(m.unsigned(4)),
  148: (m) => m.remember(),
  104: (m) => m.push(m.recalled(m.unsigned(1))),
  106: (m) => m.push(m.recalled(m.unsigned(4))),
  // GLOBAL, STACK_GLOBAL, REDUCE, BUILD, BINPERSID
  99: (m) => m.push(m.named(m.line(), m.line())),
  147: (m) => {
    const [name, module] = [m.pop(), m.pop()];
    if (typeof name !== "string" || typeof module !== "string") m.refuse("names a thing by no text");
    m.push(m.named(module as string, name as string));
  },
  82: (m) => {
    const [values, callable] = [m.pop(), m.pop()];
    m.push(m.call(callable, values));
  },
  // The state of a dictionary (`_metadata` of PyTorch's modules) or of an inert value says nothing.
  98: (m) => {
    const state = m.pop();
    const target = m.top();
    if (target instanceof ParameterDictionary) target.build(state);
  },
  // NEWOBJ: an object of a class, of which one is known.
  129: (m) => {
    m.pop();
    const made = m.pop();
    if (made === PARAMETER_DICTIONARY) m.push(new ParameterDictionary());
    else if (made === INERT) m.push(INERT);
    else m.refuse("makes an object of a class; it is not read, since it may run a program");
  },
  81: (m) => m.push(m.stored(m.pop())),
};

/** Names of instructions that run, or import by other ways, for the message. */
const FORBIDDEN: Readonly<Record<number, string>> = {
  105: "INST",
  111: "OBJ",
  146: "NEWOBJ_EX",
  130: "EXT1",
  131: "EXT2",
  132: "EXT4",
  80: "PERSID",
  73: "INT",
  76: "LONG",
  70: "FLOAT",
  83: "STRING",
  86: "UNICODE",
  103: "GET",
  112: "PUT",
  100: "DICT",
  143: "EMPTY_SET",
  144: "ADDITEMS",
  145: "FROZENSET",
  150: "BYTEARRAY8",
  151: "NEXT_BUFFER",
  152: "READONLY_BUFFER",
};
