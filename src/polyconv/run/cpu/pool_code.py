"""The thread pool and the call itself, as LLVM IR.

One call runs phases one after another. The items of a phase are cut into as many ranges as threads may join, and each
range is handed out in chunks through an atomic counter of its own: a thread first empties the range that carries its
number, then helps with the others. So from one call to the next, and from one layer to the next, a thread meets the
same part of the arrays, which then lies in its own L2; and a thread that is late or slow leaves no work undone.

What a phase needs is written to the pool, then one 64-bit word publishes it: generation in the upper half (which is
also the word that parked workers sleep on), then an open bit, the number of workers that may join, and the number
inside. A worker joins by compare-and-swap while the bit is open; the caller, out of items, closes it and waits only for
those inside. So a parked worker never delays a call that is finished without it.

Every thread computes with denormals flushed to zero, exceptions masked and rounding to nearest, restored afterwards.
"""

from __future__ import annotations

import re

from polyconv.run.cpu.target import Target

# Layout of a call block, in 64-bit words: header, phases, array entries, arguments.
HEADER_WORDS = 8  # scratch bytes, workspace bytes, workspace argument (or -1), phases, arrays, first argument, pool?, 0
PHASE_WORDS = 4  # kernel, items, chunk, threads
ARRAY_WORDS = 2  # array object (or its data pointer), argument

DONE, NO_MEMORY, NO_WORKERS = 0, 1, 2  # what a call returns

MAX_WORKERS = 255
ROUNDED = 64  # bytes: scratch and workspace are multiples of this, and start at such
SLOTS = 64  # scratch blocks kept for callers; more callers at once allocate their own
KEEP_BYTES = 64 << 20  # a block larger than this is freed after use (past the fourth slot: one huge page)
HUGE_PAGE = 2 << 20
LARGE_BYTES = 256 << 10  # blocks from here on are whole huge pages: 1 fault, not 512, and often room for the next size

# Layout of @polyconv_pool, in bytes: words that different threads write are 128 bytes apart.
STATE, JOB, PARKED, BUSY = 0, 256, 384, 512
WORKERS, SPIN, OFFSET, CLOSED = 640, 648, 656, 664
MUTEX, CONDITION = 768, 896
SLOT_TABLE = 1024
WORKER_TABLE = SLOT_TABLE + 64 * SLOTS
RANGE_TABLE = WORKER_TABLE + 64 * (MAX_WORKERS + 1)  # for each thread that may join: next item, end of its range
POOL_BYTES = RANGE_TABLE + 128 * (MAX_WORKERS + 1)

SYMBOLS = (
    "polyconv_call", "polyconv_worker", "polyconv_rouse", "polyconv_stop", "polyconv_reset",
    "polyconv_spin", "polyconv_pool",
)  # fmt: skip

_FLAGS_X86 = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse2.pause()
define internal i64 @flags_set() alwaysinline {
  %old = alloca i32
  %new = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %old)
  store i32 40896, ptr %new
  call void @llvm.x86.sse.ldmxcsr(ptr %new)
  %v = load i32, ptr %old
  %w = zext i32 %v to i64
  ret i64 %w
}
define internal void @flags_restore(i64 %saved) alwaysinline {
  %p = alloca i32
  %v = trunc i64 %saved to i32
  store i32 %v, ptr %p
  call void @llvm.x86.sse.ldmxcsr(ptr %p)
  ret void
}
define internal void @pause() alwaysinline {
  call void @llvm.x86.sse2.pause()
  ret void
}
"""

_FLAGS_ARM = """
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
declare void @llvm.aarch64.hint(i32)
define internal i64 @flags_set() alwaysinline {
  %old = call i64 @llvm.aarch64.get.fpcr()
  call void @llvm.aarch64.set.fpcr(i64 16777216)
  ret i64 %old
}
define internal void @flags_restore(i64 %saved) alwaysinline {
  call void @llvm.aarch64.set.fpcr(i64 %saved)
  ret void
}
define internal void @pause() alwaysinline {
  call void @llvm.aarch64.hint(i32 1)
  ret void
}
"""

# Sleeping while the generation is $seen; waking some. Linux sleeps on the word itself.
_PARK_FUTEX = """
declare i64 @syscall(i64, ...)
define internal void @sleep_on(i32 %seen) {
  %word = getelementptr i8, ptr @polyconv_pool, i64 4
  %r = call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i32 128, i32 %seen, ptr null)
  ret void
}
define internal void @wake(i32 %count) {
  %word = getelementptr i8, ptr @polyconv_pool, i64 4
  %r = call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i32 129, i32 %count)
  ret void
}
define internal void @park_reset() {
  ret void
}
"""

_PARK_PTHREAD = """
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
@mutex = internal alias i8, getelementptr (i8, ptr @polyconv_pool, i64 $mutex)
@condition = internal alias i8, getelementptr (i8, ptr @polyconv_pool, i64 $condition)
define internal void @sleep_on(i32 %seen) {
  %word = getelementptr i8, ptr @polyconv_pool, i64 4
  %1 = call i32 @pthread_mutex_lock(ptr @mutex)
  %now = load atomic i32, ptr %word seq_cst, align 4
  %same = icmp eq i32 %now, %seen
  br i1 %same, label %wait, label %done
wait:
  %2 = call i32 @pthread_cond_wait(ptr @condition, ptr @mutex)
  br label %done
done:
  %3 = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}
define internal void @wake(i32 %count) {
  %1 = call i32 @pthread_mutex_lock(ptr @mutex)
  %2 = call i32 @pthread_cond_broadcast(ptr @condition)
  %3 = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}
define internal void @park_reset() {
  %1 = call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  %2 = call i32 @pthread_cond_init(ptr @condition, ptr null)
  ret void
}
"""

_HUGE_LINUX = """
declare i32 @madvise(ptr, i64, i32)
define internal void @advise(ptr %p, i64 %size) {
  %large = icmp uge i64 %size, $huge
  br i1 %large, label %yes, label %no
yes:
  %r = call i32 @madvise(ptr %p, i64 %size, i32 14)
  br label %no
no:
  ret void
}
"""

_HUGE_NONE = """
define internal void @advise(ptr %p, i64 %size) {
  ret void
}
"""

_POOL = """
@polyconv_pool = dso_local global [$pool_bytes x i8] zeroinitializer, align 4096
declare i32 @posix_memalign(ptr, i64, i64)
declare void @free(ptr)
declare i32 @sched_yield()

; memory: (pointer, size) at %entry holds at least %need bytes afterwards; false if there is none
define internal i1 @grow(ptr %entry, i64 %need) {
  %sizep = getelementptr i8, ptr %entry, i64 8
  %size = load i64, ptr %sizep
  %enough = icmp uge i64 %size, %need
  br i1 %enough, label %yes, label %more
more:
  %old = load ptr, ptr %entry
  call void @free(ptr %old)
  store ptr null, ptr %entry
  store i64 0, ptr %sizep
  %large = icmp uge i64 %need, $large
  %align = select i1 %large, i64 $huge, i64 128
  %unit = select i1 %large, i64 $huge, i64 4096
  %less = sub i64 %unit, 1
  %up = add i64 %need, %less
  %mask = sub i64 0, %unit
  %round = and i64 %up, %mask
  %err = call i32 @posix_memalign(ptr %entry, i64 %align, i64 %round)
  %ok = icmp eq i32 %err, 0
  br i1 %ok, label %got, label %no
got:
  %p = load ptr, ptr %entry
  call void @advise(ptr %p, i64 %round)
  store i64 %round, ptr %sizep
  br label %yes
yes:
  ret i1 true
no:
  store ptr null, ptr %entry
  ret i1 false
}

define internal void @shrink(ptr %entry, i64 %keep) {
  %sizep = getelementptr i8, ptr %entry, i64 8
  %size = load i64, ptr %sizep
  %large = icmp ugt i64 %size, %keep
  br i1 %large, label %drop, label %done
drop:
  %old = load ptr, ptr %entry
  call void @free(ptr %old)
  store ptr null, ptr %entry
  store i64 0, ptr %sizep
  br label %done
done:
  ret void
}

; the first slot nobody uses, marked as used; %own (a fresh entry of the caller's) when all are in use
define internal ptr @take(ptr %own) {
entry:
  br label %try
try:
  %i = phi i64 [0, %entry], [%next, %again]
  %off = shl i64 %i, 6
  %at = add i64 %off, $slots_at
  %slot = getelementptr i8, ptr @polyconv_pool, i64 %at
  %flag = getelementptr i8, ptr %slot, i64 16
  %used = load atomic i64, ptr %flag monotonic, align 8
  %maybe = icmp eq i64 %used, 0
  br i1 %maybe, label %swap, label %again
swap:
  %was = atomicrmw xchg ptr %flag, i64 1 acquire
  %mine = icmp eq i64 %was, 0
  br i1 %mine, label %got, label %again
again:
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, $slots
  br i1 %more, label %try, label %none
got:
  ret ptr %slot
none:
  ret ptr %own
}

define internal void @give(ptr %slot, ptr %own) {
  %mine = icmp eq ptr %slot, %own
  br i1 %mine, label %drop, label %put
drop:
  call void @shrink(ptr %slot, i64 0)
  ret void
put:
  %fifth = getelementptr i8, ptr @polyconv_pool, i64 $fifth_slot
  %late = icmp uge ptr %slot, %fifth
  %keep = select i1 %late, i64 $huge, i64 $keep
  call void @shrink(ptr %slot, i64 %keep)
  %flag = getelementptr i8, ptr %slot, i64 16
  store atomic i64 0, ptr %flag release, align 8
  ret void
}

; take chunks of the published job until none is left: of the range with this number first, then of those after it
define internal void @work(ptr %kernel, ptr %args, i64 %parts, i64 %mine, i64 %chunk, ptr %scratch) {
entry:
  %some = icmp sgt i64 %parts, 0
  br i1 %some, label %range, label %done
range:
  %n = phi i64 [0, %entry], [%n1, %next]
  %sum = add i64 %mine, %n
  %number = urem i64 %sum, %parts
  %off = shl i64 %number, 7
  %at = add i64 %off, $ranges
  %counter = getelementptr i8, ptr @polyconv_pool, i64 %at
  %endp = getelementptr i8, ptr %counter, i64 8
  %end = load i64, ptr %endp
  br label %look
look:
  %seen = load atomic i64, ptr %counter monotonic, align 8
  %left = icmp slt i64 %seen, %end
  br i1 %left, label %claim, label %next
claim:
  %first = atomicrmw add ptr %counter, i64 %chunk monotonic
  %mine_now = icmp slt i64 %first, %end
  br i1 %mine_now, label %run, label %next
run:
  %high = add i64 %first, %chunk
  %last = call i64 @llvm.smin.i64(i64 %high, i64 %end)
  call void %kernel(ptr %args, i64 %first, i64 %last, ptr %scratch)
  br label %look
next:
  %n1 = add i64 %n, 1
  %more = icmp ult i64 %n1, %parts
  br i1 %more, label %range, label %done
done:
  ret void
}

; one phase on the pool, which the caller holds
define internal void @share(ptr %kernel, ptr %args, i64 %items, i64 %chunk, i64 %threads, i64 %need, ptr %scratch) {
entry:
  %kp = getelementptr i8, ptr @polyconv_pool, i64 $job
  %ap = getelementptr i8, ptr %kp, i64 8
  %ip = getelementptr i8, ptr %kp, i64 16
  %cp = getelementptr i8, ptr %kp, i64 24
  %np = getelementptr i8, ptr %kp, i64 32
  store ptr %kernel, ptr %kp
  store ptr %args, ptr %ap
  store i64 %chunk, ptr %cp
  store i64 %need, ptr %np
  %wp = getelementptr i8, ptr @polyconv_pool, i64 $workers
  %workers = load i64, ptr %wp
  %others = add i64 %threads, -1
  %a = call i64 @llvm.smin.i64(i64 %others, i64 %workers)
  %minus = add i64 %items, -1
  %chunks = udiv i64 %minus, %chunk
  %limit = call i64 @llvm.smin.i64(i64 %a, i64 %chunks)
  %parts = add i64 %limit, 1
  store i64 %parts, ptr %ip
  br label %range
range:
  %r = phi i64 [0, %entry], [%r1, %range]
  %from = phi i64 [0, %entry], [%to, %range]
  %r1 = add i64 %r, 1
  %scaled = mul i64 %items, %r1
  %to = udiv i64 %scaled, %parts
  %off = shl i64 %r, 7
  %at = add i64 %off, $ranges
  %counter = getelementptr i8, ptr @polyconv_pool, i64 %at
  %endp = getelementptr i8, ptr %counter, i64 8
  store atomic i64 %from, ptr %counter monotonic, align 8
  store i64 %to, ptr %endp
  %more = icmp ult i64 %r1, %parts
  br i1 %more, label %range, label %publish
publish:
  %old = load atomic i64, ptr @polyconv_pool monotonic, align 8
  %gen = lshr i64 %old, 32
  %gen1 = add i64 %gen, 1
  %high = shl i64 %gen1, 32
  %lim = shl i64 %limit, 16
  %low = or i64 %lim, 2147483648
  %new = or i64 %high, %low
  %ignored = atomicrmw xchg ptr @polyconv_pool, i64 %new seq_cst
  %pp = getelementptr i8, ptr @polyconv_pool, i64 $parked
  %parked = load atomic i64, ptr %pp seq_cst, align 8
  %awake = sub i64 %workers, %parked
  %lack = sub i64 %limit, %awake
  %sleepy = icmp sgt i64 %lack, 0
  br i1 %sleepy, label %rouse, label %go
rouse:
  %count = trunc i64 %lack to i32
  call void @wake(i32 %count)
  br label %go
go:
  call void @work(ptr %kernel, ptr %args, i64 %parts, i64 0, i64 %chunk, ptr %scratch)
  %before = atomicrmw and ptr @polyconv_pool, i64 -2147483649 acq_rel
  br label %wait
wait:
  %s = phi i64 [%before, %go], [%now, %again]
  %n = phi i64 [0, %go], [%n1, %again]
  %inside = and i64 %s, 65535
  %alone = icmp eq i64 %inside, 0
  br i1 %alone, label %done, label %spin
spin:
  call void @pause()
  %n1 = add i64 %n, 1
  %long = icmp ugt i64 %n1, 4096
  br i1 %long, label %yield, label %again
yield:
  %y = call i32 @sched_yield()
  br label %again
again:
  %now = load atomic i64, ptr @polyconv_pool acquire, align 8
  br label %wait
done:
  ret void
}
declare i64 @llvm.smin.i64(i64, i64)

define i64 @polyconv_call(ptr %c) {
entry:
  %own = alloca [2 x i64], align 16
  store [2 x i64] zeroinitializer, ptr %own
  %c1 = getelementptr i64, ptr %c, i64 1
  %c2 = getelementptr i64, ptr %c, i64 2
  %c3 = getelementptr i64, ptr %c, i64 3
  %c4 = getelementptr i64, ptr %c, i64 4
  %c5 = getelementptr i64, ptr %c, i64 5
  %c6 = getelementptr i64, ptr %c, i64 6
  %need = load i64, ptr %c
  %space = load i64, ptr %c1
  %place = load i64, ptr %c2
  %phases = load i64, ptr %c3
  %arrays = load i64, ptr %c4
  %args_at = load i64, ptr %c5
  %wants = load i64, ptr %c6
  %args = getelementptr i64, ptr %c, i64 %args_at
  %first_phase = getelementptr i64, ptr %c, i64 $header
  %phase_words = mul i64 %phases, $phase_words
  %first_array = getelementptr i64, ptr %first_phase, i64 %phase_words
  %no_pool = icmp eq i64 %wants, 0
  br i1 %no_pool, label %resolve, label %check
check:
  %wp = getelementptr i8, ptr @polyconv_pool, i64 $workers
  %workers = load atomic i64, ptr %wp monotonic, align 8
  %unstarted = icmp eq i64 %workers, 0
  br i1 %unstarted, label %empty, label %resolve
empty:
  %xp = getelementptr i8, ptr @polyconv_pool, i64 $closed
  %closed = load atomic i64, ptr %xp monotonic, align 8
  %open = icmp eq i64 %closed, 0
  br i1 %open, label %start, label %resolve
start:
  ret i64 2

resolve:
  %op = getelementptr i8, ptr @polyconv_pool, i64 $offset
  %offset = load i64, ptr %op
  %direct = icmp slt i64 %offset, 0
  br label %array
array:
  %i = phi i64 [0, %resolve], [%i1, %fill]
  %more = icmp ult i64 %i, %arrays
  br i1 %more, label %one, label %memory
one:
  %at = shl i64 %i, 1
  %objp = getelementptr i64, ptr %first_array, i64 %at
  %wherep = getelementptr i64, ptr %objp, i64 1
  %where = load i64, ptr %wherep
  br i1 %direct, label %given, label %follow
given:
  %value = load i64, ptr %objp
  br label %fill
follow:
  %obj = load ptr, ptr %objp
  %datap = getelementptr i8, ptr %obj, i64 %offset
  %data = load i64, ptr %datap
  br label %fill
fill:
  %pointer = phi i64 [%value, %given], [%data, %follow]
  %argp = getelementptr i64, ptr %args, i64 %where
  store i64 %pointer, ptr %argp
  %i1 = add i64 %i, 1
  br label %array

memory:
  %space_up = add i64 %space, 63
  %space_round = and i64 %space_up, -64
  %total = add i64 %space_round, %need
  %nothing = icmp eq i64 %total, 0
  br i1 %nothing, label %ready, label %claim
claim:
  %slot0 = call ptr @take(ptr %own)
  %ok = call i1 @grow(ptr %slot0, i64 %total)
  br i1 %ok, label %claimed, label %fail
fail:
  call void @give(ptr %slot0, ptr %own)
  ret i64 1
claimed:
  %base0 = load ptr, ptr %slot0
  %scratch0 = getelementptr i8, ptr %base0, i64 %space_round
  %has_place = icmp sge i64 %place, 0
  br i1 %has_place, label %put, label %ready
put:
  %workp = getelementptr i64, ptr %args, i64 %place
  store ptr %base0, ptr %workp
  br label %ready

ready:
  %slot = phi ptr [null, %memory], [%slot0, %claimed], [%slot0, %put]
  %scratch = phi ptr [null, %memory], [%scratch0, %claimed], [%scratch0, %put]
  %flags = call i64 @flags_set()
  br i1 %no_pool, label %run, label %lock
lock:
  %bp = getelementptr i8, ptr @polyconv_pool, i64 $busy
  %was = atomicrmw xchg ptr %bp, i64 1 acquire
  %held0 = icmp eq i64 %was, 0
  br label %run
run:
  %held = phi i1 [false, %ready], [%held0, %lock]
  br label %phase
phase:
  %p = phi i64 [0, %run], [%p1, %next_phase]
  %left = icmp ult i64 %p, %phases
  br i1 %left, label %begin, label %finish
begin:
  %pw = mul i64 %p, $phase_words
  %kpp = getelementptr i64, ptr %first_phase, i64 %pw
  %ipp = getelementptr i64, ptr %kpp, i64 1
  %cpp = getelementptr i64, ptr %kpp, i64 2
  %tpp = getelementptr i64, ptr %kpp, i64 3
  %kernel = load ptr, ptr %kpp
  %items = load i64, ptr %ipp
  %chunk = load i64, ptr %cpp
  %threads = load i64, ptr %tpp
  %several = icmp sgt i64 %threads, 1
  %divisible = icmp sgt i64 %items, %chunk
  %both = and i1 %several, %divisible
  %parallel = and i1 %both, %held
  br i1 %parallel, label %together, label %alone
together:
  call void @share(ptr %kernel, ptr %args, i64 %items, i64 %chunk, i64 %threads, i64 %need, ptr %scratch)
  br label %next_phase
alone:
  %any = icmp sgt i64 %items, 0
  br i1 %any, label %whole, label %next_phase
whole:
  call void %kernel(ptr %args, i64 0, i64 %items, ptr %scratch)
  br label %next_phase
next_phase:
  %p1 = add i64 %p, 1
  br label %phase
finish:
  br i1 %held, label %unlock, label %tidy
unlock:
  %bp2 = getelementptr i8, ptr @polyconv_pool, i64 $busy
  store atomic i64 0, ptr %bp2 release, align 8
  br label %tidy
tidy:
  call void @flags_restore(i64 %flags)
  %none = icmp eq ptr %slot, null
  br i1 %none, label %out, label %back
back:
  call void @give(ptr %slot, ptr %own)
  br label %out
out:
  ret i64 0
}

; a worker's whole life: spin, park, join, work; returns when the pool is stopped
define void @polyconv_worker(i64 %index) {
entry:
  %flags = call i64 @flags_set()
  %number = add i64 %index, 1
  %off = shl i64 %index, 6
  %tab = add i64 %off, $worker_table
  %mine = getelementptr i8, ptr @polyconv_pool, i64 %tab
  %xp = getelementptr i8, ptr @polyconv_pool, i64 $closed
  %sp = getelementptr i8, ptr @polyconv_pool, i64 $spin
  %pp = getelementptr i8, ptr @polyconv_pool, i64 $parked
  %kp = getelementptr i8, ptr @polyconv_pool, i64 $job
  %ap = getelementptr i8, ptr %kp, i64 8
  %ip = getelementptr i8, ptr %kp, i64 16
  %cp = getelementptr i8, ptr %kp, i64 24
  %np = getelementptr i8, ptr %kp, i64 32
  %s00 = load atomic i64, ptr @polyconv_pool acquire, align 8
  %gen00 = lshr i64 %s00, 32
  %before = add i64 %gen00, -1
  br label %idle
idle:
  %seen = phi i64 [%before, %entry], [%gen, %closed_job], [%gen, %leave]
  %spins = load i64, ptr %sp
  br label %look
look:
  %n = phi i64 [0, %idle], [%n1, %rest]
  %s1 = load atomic i64, ptr @polyconv_pool acquire, align 8
  %g1 = lshr i64 %s1, 32
  %fresh1 = icmp ne i64 %g1, %seen
  br i1 %fresh1, label %news, label %tired
tired:
  %n1 = add i64 %n, 1
  %enough = icmp uge i64 %n1, %spins
  br i1 %enough, label %bed, label %rest
rest:
  call void @pause()
  br label %look
bed:
  %b1 = atomicrmw add ptr %pp, i64 1 seq_cst
  %seen32 = trunc i64 %seen to i32
  br label %asleep
asleep:
  %s2 = load atomic i64, ptr @polyconv_pool seq_cst, align 8
  %g2 = lshr i64 %s2, 32
  %fresh2 = icmp ne i64 %g2, %seen
  br i1 %fresh2, label %rise, label %sleep
sleep:
  call void @sleep_on(i32 %seen32)
  br label %asleep
rise:
  %b2 = atomicrmw sub ptr %pp, i64 1 seq_cst
  br label %news
news:
  %s3 = phi i64 [%s1, %look], [%s2, %rise]
  %stop = load atomic i64, ptr %xp acquire, align 8
  %over = icmp ne i64 %stop, 0
  br i1 %over, label %die, label %join
join:
  %s = phi i64 [%s3, %news], [%found, %retry]
  %gen = lshr i64 %s, 32
  %openbit = and i64 %s, 2147483648
  %shut = icmp eq i64 %openbit, 0
  br i1 %shut, label %closed_job, label %room
room:
  %inside = and i64 %s, 65535
  %lim0 = lshr i64 %s, 16
  %lim = and i64 %lim0, 32767
  %full = icmp uge i64 %inside, %lim
  br i1 %full, label %closed_job, label %enter
enter:
  %plus = add i64 %s, 1
  %pair = cmpxchg ptr @polyconv_pool, i64 %s, i64 %plus seq_cst acquire
  %found = extractvalue {i64, i1} %pair, 0
  %won = extractvalue {i64, i1} %pair, 1
  br i1 %won, label %inside_job, label %retry
retry:
  br label %join
closed_job:
  br label %idle
inside_job:
  %need = load i64, ptr %np
  %kernel = load ptr, ptr %kp
  %args = load ptr, ptr %ap
  %parts = load i64, ptr %ip
  %chunk = load i64, ptr %cp
  %ok = call i1 @grow(ptr %mine, i64 %need)
  br i1 %ok, label %labour, label %leave
labour:
  %scratch = load ptr, ptr %mine
  call void @work(ptr %kernel, ptr %args, i64 %parts, i64 %number, i64 %chunk, ptr %scratch)
  call void @shrink(ptr %mine, i64 $keep)
  br label %leave
leave:
  %left = atomicrmw sub ptr @polyconv_pool, i64 1 seq_cst
  br label %idle
die:
  call void @shrink(ptr %mine, i64 0)
  call void @flags_restore(i64 %flags)
  ret void
}

; work is coming: let up to %count parked workers look for it; nothing if there are none, or somebody holds the pool
define void @polyconv_rouse(i64 %count) {
entry:
  %pp = getelementptr i8, ptr @polyconv_pool, i64 $parked
  %parked = load atomic i64, ptr %pp monotonic, align 8
  %asleep = icmp sgt i64 %parked, 0
  br i1 %asleep, label %claim, label %done
claim:
  %bp = getelementptr i8, ptr @polyconv_pool, i64 $busy
  %was = atomicrmw xchg ptr %bp, i64 1 acquire
  %free = icmp eq i64 %was, 0
  br i1 %free, label %call, label %done
call:
  %old = load atomic i64, ptr @polyconv_pool monotonic, align 8
  %gen = lshr i64 %old, 32
  %gen1 = add i64 %gen, 1
  %new = shl i64 %gen1, 32
  %ignored = atomicrmw xchg ptr @polyconv_pool, i64 %new seq_cst
  %count32 = trunc i64 %count to i32
  call void @wake(i32 %count32)
  store atomic i64 0, ptr %bp release, align 8
  br label %done
done:
  ret void
}

; close the pool for good: no new job, workers leave; 0 if a job is running (nothing is done then)
define i64 @polyconv_stop() {
entry:
  %bp = getelementptr i8, ptr @polyconv_pool, i64 $busy
  %was = atomicrmw xchg ptr %bp, i64 1 acquire
  %free = icmp eq i64 %was, 0
  br i1 %free, label %close, label %no
close:
  %xp = getelementptr i8, ptr @polyconv_pool, i64 $closed
  store atomic i64 1, ptr %xp release, align 8
  %wp = getelementptr i8, ptr @polyconv_pool, i64 $workers
  store atomic i64 0, ptr %wp monotonic, align 8
  %old = load atomic i64, ptr @polyconv_pool monotonic, align 8
  %gen = lshr i64 %old, 32
  %gen1 = add i64 %gen, 1
  %new = shl i64 %gen1, 32
  %ignored = atomicrmw xchg ptr @polyconv_pool, i64 %new seq_cst
  call void @wake(i32 2147483647)
  ret i64 1
no:
  ret i64 0
}

; a fresh pool: at the start and in the child of a fork, where no worker exists
define void @polyconv_reset(i64 %spin, i64 %offset) {
  call void @llvm.memset.p0.i64(ptr align 128 @polyconv_pool, i8 0, i64 $pool_bytes, i1 false)
  %sp = getelementptr i8, ptr @polyconv_pool, i64 $spin
  store i64 %spin, ptr %sp
  %op = getelementptr i8, ptr @polyconv_pool, i64 $offset
  store i64 %offset, ptr %op
  call void @park_reset()
  ret void
}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

; how long a pause takes is measured through this
define void @polyconv_spin(i64 %count) {
entry:
  br label %loop
loop:
  %n = phi i64 [0, %entry], [%n1, %loop]
  call void @pause()
  %s = load atomic i64, ptr @polyconv_pool acquire, align 8
  %n1 = add i64 %n, 1
  %more = icmp ult i64 %n1, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""


def filled(text: str, **values: int | str) -> str:
    """A text with these values in place of its ``$names``; ``string.Template`` is 1.3 ms of a first call."""
    return re.sub(r"\$(\w+)", lambda found: str(values[found[1]]), text)


def pool_ir(target: Target, *, parking: str | None = None) -> str:
    """The module of the pool for a target.

    Args:
        target: the machine it is for.
        parking: ``"futex"`` (Linux) or ``"pthread"`` (anywhere); None takes what the target has.
    """
    linux = "linux" in target.triple
    arm = target.arch in ("aarch64", "arm64")
    park = _PARK_FUTEX if (parking or ("futex" if linux else "pthread")) == "futex" else _PARK_PTHREAD
    parts = [
        filled(
            _POOL,
            pool_bytes=POOL_BYTES,
            slots=SLOTS,
            slots_at=SLOT_TABLE,
            fifth_slot=SLOT_TABLE + 4 * 64,
            worker_table=WORKER_TABLE,
            keep=KEEP_BYTES,
            huge=HUGE_PAGE,
            large=LARGE_BYTES,
            ranges=RANGE_TABLE,
            job=JOB,
            parked=PARKED,
            busy=BUSY,
            workers=WORKERS,
            spin=SPIN,
            offset=OFFSET,
            closed=CLOSED,
            header=HEADER_WORDS,
            phase_words=PHASE_WORDS,
        ),
        _FLAGS_ARM if arm else _FLAGS_X86,
        filled(park, futex=98 if arm else 202, mutex=MUTEX, condition=CONDITION),
        filled(_HUGE_LINUX, huge=HUGE_PAGE) if linux else _HUGE_NONE,
    ]
    return "\n".join(parts)
