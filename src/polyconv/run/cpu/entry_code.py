"""A layer as a function that the interpreter calls, as LLVM IR.

The functions here have the signature of CPython's ``METH_O``: they get a record (an array of 64-bit words, laid out
below) and what the caller gave. If that is the array that the record is for, they make the result, copy the call block
to the stack, fill in the two arrays and make the call (`polyconv.run.cpu.pool_code`), all without a step of Python.

Of CPython and NumPy they use exported functions, whose addresses are in ``@polyconv_python``, and the fields that
NumPy's headers show: ``PyArrayObject_fields``, and the type of an object after its reference count.
"""

from __future__ import annotations

from polyconv.run.cpu.buffers import NOTE_BYTES, NOTED
from polyconv.run.cpu.pool_code import ARRAY_WORDS, filled

# Where NumPy's headers put the fields of an array, in bytes; `polyconv.run.cpu.entry` compares before it relies on it.
TYPE, DATA, NDIM, DIMENSIONS, DESCR, FLAGS = 8, 16, 24, 32, 56, 64
NEEDED, OURS = 0x101, 0x501  # NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED, and NPY_ARRAY_WRITEABLE

# A record, in words: what is expected, what is made, the call. The dimensions and the block follow.
(
    DTYPE, AXES, OUT_AXES, SHARED, LEAST_ROOM, MOST_ROOM, ALLOCATE, OTHERWISE, HOLDS, FIRST_ARRAY, BLOCK, BLOCK_BYTES,
    SIZES,
) = range(13)  # fmt: skip
MOST_WORDS = 448  # of a call block: it is copied to the stack, and below a page no system asks for more than that

# @polyconv_python, in words
NEW_ARRAY, SET_BASE, CALL, KEEP, DROP, LEAVE, RETURN, ARRAY_TYPE, NONE, KNOWN = range(10)  # KNOWN: how many

SYMBOLS = ("polyconv_python", "polyconv_run", "polyconv_attempt")

_MADE = """
@polyconv_python = dso_local global [$known x ptr] zeroinitializer, align 64
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal ptr @known(i64 %which) alwaysinline {
  %at = getelementptr ptr, ptr @polyconv_python, i64 %which
  %is = load ptr, ptr %at
  ret ptr %is
}

define internal ptr @field(ptr %object, i64 %bytes) alwaysinline {
  %at = getelementptr i8, ptr %object, i64 %bytes
  %is = load ptr, ptr %at
  ret ptr %is
}

define internal ptr @noted(ptr %record, i64 %word) alwaysinline {
  %at = getelementptr ptr, ptr %record, i64 %word
  %is = load ptr, ptr %at
  ret ptr %is
}

define internal i64 @number(ptr %record, i64 %word) alwaysinline {
  %at = getelementptr i64, ptr %record, i64 %word
  %is = load i64, ptr %at
  ret i64 %is
}

; the result; null with an exception set; 1 where x is not what the record is for, or the call cannot be made yet
define internal ptr @made(ptr %self, ptr %x) {
entry:
  %block = alloca [$most x i64], align 64
  %record = call ptr @field(ptr %self, i64 $data)
  %type = call ptr @field(ptr %x, i64 $type)
  %array = call ptr @known(i64 $array_type)
  %is_array = icmp eq ptr %type, %array
  br i1 %is_array, label %same_type, label %miss
same_type:
  %descr = call ptr @field(ptr %x, i64 $descr)
  %dtype = call ptr @noted(ptr %record, i64 $dtype)
  %is_dtype = icmp eq ptr %descr, %dtype
  br i1 %is_dtype, label %same_dtype, label %miss
same_dtype:
  %axes = call i64 @number(ptr %record, i64 $axes)
  %ndimp = getelementptr i8, ptr %x, i64 $ndim
  %ndim32 = load i32, ptr %ndimp
  %ndim = sext i32 %ndim32 to i64
  %is_ndim = icmp eq i64 %ndim, %axes
  %flagsp = getelementptr i8, ptr %x, i64 $flags
  %flags = load i32, ptr %flagsp
  %needed = and i32 %flags, $needed
  %is_plain = icmp eq i32 %needed, $needed
  %both = and i1 %is_ndim, %is_plain
  br i1 %both, label %sizes, label %miss
sizes:
  %has = call ptr @field(ptr %x, i64 $dimensions)
  %wants = getelementptr i64, ptr %record, i64 $sizes
  br label %size
size:
  %i = phi i64 [0, %sizes], [%i1, %next]
  %more = icmp slt i64 %i, %axes
  br i1 %more, label %compare, label %allocate
compare:
  %hasp = getelementptr i64, ptr %has, i64 %i
  %wantsp = getelementptr i64, ptr %wants, i64 %i
  %a = load i64, ptr %hasp
  %b = load i64, ptr %wantsp
  %is_size = icmp eq i64 %a, %b
  br i1 %is_size, label %next, label %miss
next:
  %i1 = add i64 %i, 1
  br label %size

allocate:
  %outs = getelementptr i64, ptr %wants, i64 %axes
  %out_axes = call i64 @number(ptr %record, i64 $out_axes)
  %out_axes32 = trunc i64 %out_axes to i32
  %new = call ptr @known(i64 $new_array)
  %keep = call ptr @known(i64 $keep)
  %shared = call ptr @noted(ptr %record, i64 $shared)
  %no_blocks = icmp eq ptr %shared, null
  br i1 %no_blocks, label %elsewhere, label %search
search:
  %least = call i64 @number(ptr %record, i64 $least_room)
  %most = call i64 @number(ptr %record, i64 $most_room)
  br label %look
look:
  %n = phi i64 [0, %search], [%n1, %other]
  %about = getelementptr [$note_words x i64], ptr %shared, i64 %n
  %memory = call ptr @noted(ptr %about, i64 0)
  %start = call ptr @noted(ptr %about, i64 1)
  %room = call i64 @number(ptr %about, i64 2)
  %fits = icmp ule i64 %least, %room
  %small = icmp ule i64 %room, %most
  %well = and i1 %fits, %small
  br i1 %well, label %count, label %other
count:
  %references = load i32, ptr %memory
  %idle = icmp eq i32 %references, 1
  br i1 %idle, label %reuse, label %other
other:
  %n1 = add i64 %n, 1
  %all = icmp eq i64 %n1, $noted
  br i1 %all, label %elsewhere, label %look
reuse:
  call void %keep(ptr %memory)
  call void %keep(ptr %dtype)
  %used = call ptr %new(ptr %array, ptr %dtype, i32 %out_axes32, ptr %outs, ptr null, ptr %start, i32 $ours, ptr null)
  %unmade = icmp eq ptr %used, null
  br i1 %unmade, label %unused, label %owned
unused:
  %drop_memory = call ptr @known(i64 $drop)
  call void %drop_memory(ptr %memory)
  br label %error
owned:
  %set_base = call ptr @known(i64 $set_base)
  %set = call i32 %set_base(ptr %used, ptr %memory)
  %front = load [$note_words x i64], ptr %shared
  %taken = load [$note_words x i64], ptr %about
  store [$note_words x i64] %front, ptr %about
  store [$note_words x i64] %taken, ptr %shared
  %is_set = icmp eq i32 %set, 0
  br i1 %is_set, label %prepare, label %unset
unset:
  %drop_used = call ptr @known(i64 $drop)
  call void %drop_used(ptr %used)
  br label %error
elsewhere:
  %allocator = call ptr @noted(ptr %record, i64 $allocate)
  %plainly = icmp eq ptr %allocator, null
  br i1 %plainly, label %numpy, label %ask
numpy:
  call void %keep(ptr %dtype)
  %fresh = call ptr %new(ptr %array, ptr %dtype, i32 %out_axes32, ptr %outs, ptr null, ptr null, i32 0, ptr null)
  br label %allocated
ask:
  %caller = call ptr @known(i64 $call)
  %given = call ptr (ptr, ...) %caller(ptr %allocator, ptr null)
  br label %allocated
allocated:
  %another = phi ptr [%fresh, %numpy], [%given, %ask]
  %failed = icmp eq ptr %another, null
  br i1 %failed, label %error, label %prepare
prepare:
  %out = phi ptr [%another, %allocated], [%used, %owned]
  %block_at = call ptr @noted(ptr %record, i64 $block)
  %bytes = call i64 @number(ptr %record, i64 $block_bytes)
  call void @llvm.memcpy.p0.p0.i64(ptr align 64 %block, ptr align 8 %block_at, i64 %bytes, i1 false)
  %first = call i64 @number(ptr %record, i64 $first_array)
  %xp = getelementptr i64, ptr %block, i64 %first
  %outp = getelementptr i64, ptr %xp, i64 $array_words
  store ptr %x, ptr %xp
  store ptr %out, ptr %outp
  %holds = call ptr @noted(ptr %record, i64 $holds)
  %hands_over = icmp eq ptr %holds, null
  br i1 %hands_over, label %without, label %within
within:
  %status0 = call i64 @polyconv_call(ptr %block)
  br label %over
without:
  %leave = call ptr @known(i64 $leave)
  %thread = call ptr %leave()
  %status1 = call i64 @polyconv_call(ptr %block)
  %return = call ptr @known(i64 $return)
  call void %return(ptr %thread)
  br label %over
over:
  %status = phi i64 [%status0, %within], [%status1, %without]
  %is_done = icmp eq i64 %status, 0
  br i1 %is_done, label %done, label %undone
undone:
  %drop = call ptr @known(i64 $drop)
  call void %drop(ptr %out)
  br label %miss
done:
  ret ptr %out
error:
  ret ptr null
miss:
  ret ptr inttoptr (i64 1 to ptr)
}
"""

_FUNCTION = """
define ptr @$name(ptr %self, ptr %x) {
  %result = call ptr @made(ptr %self, ptr %x)
  %is_other = icmp eq ptr %result, inttoptr (i64 1 to ptr)
  br i1 %is_other, label %other, label %mine
mine:
  ret ptr %result
other:
$other
}
"""

# what the record names for other arrays
_OTHERWISE = """
  %record = call ptr @field(ptr %self, i64 $data)
  %otherwise = call ptr @noted(ptr %record, i64 $otherwise)
  %caller = call ptr @known(i64 $call)
  %its = call ptr (ptr, ...) %caller(ptr %otherwise, ptr %x, ptr null)
  ret ptr %its
"""

# None for other arrays
_NO_RESULT = """
  %none = call ptr @known(i64 $none)
  %keep = call ptr @known(i64 $keep)
  call void %keep(ptr %none)
  ret ptr %none
"""


def entry_ir() -> str:
    """What the pool's module has of this."""
    made = filled(
        _MADE,
        most=MOST_WORDS, noted=NOTED, note_words=NOTE_BYTES // 8, array_words=ARRAY_WORDS, known=KNOWN,
        type=TYPE, data=DATA, ndim=NDIM, dimensions=DIMENSIONS, descr=DESCR, flags=FLAGS, needed=NEEDED, ours=OURS,
        dtype=DTYPE, axes=AXES, out_axes=OUT_AXES, shared=SHARED, least_room=LEAST_ROOM, most_room=MOST_ROOM,
        allocate=ALLOCATE, holds=HOLDS, first_array=FIRST_ARRAY, block=BLOCK, block_bytes=BLOCK_BYTES, sizes=SIZES,
        new_array=NEW_ARRAY, set_base=SET_BASE, call=CALL, keep=KEEP, drop=DROP, leave=LEAVE, array_type=ARRAY_TYPE,
        **{"return": RETURN},
    )  # fmt: skip
    otherwise = filled(_OTHERWISE, data=DATA, otherwise=OTHERWISE, call=CALL)
    no_result = filled(_NO_RESULT, none=NONE, keep=KEEP)
    functions = {"polyconv_run": otherwise, "polyconv_attempt": no_result}
    return made + "".join(filled(_FUNCTION, name=name, other=other) for name, other in functions.items())
