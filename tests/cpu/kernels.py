"""Small kernels written by hand, for tests of the machinery around kernels."""

# y[i] = x[i] + 1 for the items i; arguments x, y
ADD_ONE = """
define void @add_one(ptr %args, i64 %first, i64 %last, ptr %scratch) {
entry:
  %x = load ptr, ptr %args
  %yp = getelementptr i64, ptr %args, i64 1
  %y = load ptr, ptr %yp
  br label %loop
loop:
  %i = phi i64 [%first, %entry], [%i1, %loop]
  %p = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %p
  %w = fadd float %v, 1.0
  %q = getelementptr float, ptr %y, i64 %i
  store float %w, ptr %q
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %last
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""

# Fills its scratch with the item's number, then sums it: y[i] = words * i, unless somebody shares the scratch.
# Arguments y, words.
USES_SCRATCH = """
define void @uses_scratch(ptr %args, i64 %first, i64 %last, ptr %scratch) {
entry:
  %y = load ptr, ptr %args
  %np = getelementptr i64, ptr %args, i64 1
  %n = load i64, ptr %np
  br label %item
item:
  %i = phi i64 [%first, %entry], [%i1, %store]
  br label %fill
fill:
  %a = phi i64 [0, %item], [%a1, %fill]
  %ap = getelementptr i64, ptr %scratch, i64 %a
  store volatile i64 %i, ptr %ap
  %a1 = add i64 %a, 1
  %am = icmp slt i64 %a1, %n
  br i1 %am, label %fill, label %add
add:
  %b = phi i64 [0, %fill], [%b1, %add]
  %s = phi i64 [0, %fill], [%s1, %add]
  %bp = getelementptr i64, ptr %scratch, i64 %b
  %v = load volatile i64, ptr %bp
  %s1 = add i64 %s, %v
  %b1 = add i64 %b, 1
  %bm = icmp slt i64 %b1, %n
  br i1 %bm, label %add, label %store
store:
  %q = getelementptr i64, ptr %y, i64 %i
  store i64 %s1, ptr %q
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %last
  br i1 %more, label %item, label %done
done:
  ret void
}
"""

# y[n - 1 - i] = x[i]; arguments x, y, n: as two phases through a workspace, only a barrier gives the right answer
REVERSE = """
define void @reverse(ptr %args, i64 %first, i64 %last, ptr %scratch) {
entry:
  %x = load ptr, ptr %args
  %yp = getelementptr i64, ptr %args, i64 1
  %y = load ptr, ptr %yp
  %w = call ptr @reverse_into(ptr %x, ptr %y, ptr %args, i64 2, i64 %first, i64 %last)
  ret void
}
define void @reverse_back(ptr %args, i64 %first, i64 %last, ptr %scratch) {
entry:
  %xp = getelementptr i64, ptr %args, i64 1
  %x = load ptr, ptr %xp
  %yp = getelementptr i64, ptr %args, i64 3
  %y = load ptr, ptr %yp
  %w = call ptr @reverse_into(ptr %x, ptr %y, ptr %args, i64 2, i64 %first, i64 %last)
  ret void
}
define internal ptr @reverse_into(ptr %x, ptr %y, ptr %args, i64 %at, i64 %first, i64 %last) {
entry:
  %np = getelementptr i64, ptr %args, i64 %at
  %n = load i64, ptr %np
  %e = add i64 %n, -1
  br label %loop
loop:
  %i = phi i64 [%first, %entry], [%i1, %loop]
  %p = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %p
  %j = sub i64 %e, %i
  %q = getelementptr float, ptr %y, i64 %j
  store float %v, ptr %q
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %last
  br i1 %more, label %loop, label %done
done:
  ret ptr %y
}
"""

# Counts to a number for each item and does nothing else; argument: the number
SLOW = """
define void @slow(ptr %args, i64 %first, i64 %last, ptr %scratch) {
entry:
  %n = load i64, ptr %args
  %at = alloca i64
  br label %item
item:
  %i = phi i64 [%first, %entry], [%i1, %next]
  br label %count
count:
  %a = phi i64 [0, %item], [%a1, %count]
  store volatile i64 %a, ptr %at
  %a1 = add i64 %a, 1
  %am = icmp slt i64 %a1, %n
  br i1 %am, label %count, label %next
next:
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %last
  br i1 %more, label %item, label %done
done:
  ret void
}
"""

# y[i] = x[i] * 1.0: what becomes of a denormal says how the thread computes; arguments x, y
TIMES_ONE = ADD_ONE.replace("add_one", "times_one").replace("fadd float %v, 1.0", "fmul float %v, %one")
TIMES_ONE = TIMES_ONE.replace(
    "entry:\n", "entry:\n  %onep = getelementptr i64, ptr %args, i64 2\n  %one = load float, ptr %onep\n"
)

# Fails on a target without AVX-512
AVX512_ONLY = """
declare <16 x float> @llvm.x86.avx512.max.ps.512(<16 x float>, <16 x float>, i32)
define void @wide(ptr %args, i64 %first, i64 %last, ptr %scratch) {
  %v = load <16 x float>, ptr %args
  %w = call <16 x float> @llvm.x86.avx512.max.ps.512(<16 x float> %v, <16 x float> %v, i32 4)
  store <16 x float> %w, ptr %args
  ret void
}
"""
