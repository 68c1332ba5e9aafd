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
