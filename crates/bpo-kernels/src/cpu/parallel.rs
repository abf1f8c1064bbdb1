//! Cutting work for the thread pool.
use std::ops::Range;

/// Calls `work` on disjoint ranges that make up `0..items`, on all threads of the pool at once when there are at
/// least two times `grain` items.
pub fn ranges(items: usize, grain: usize, work: impl Fn(Range<usize>) + Sync) {
    let pieces = rayon::current_num_threads().min(items / grain.max(1)).max(1);
    halve(0..items, pieces, &work);
}

fn halve(range: Range<usize>, pieces: usize, work: &(impl Fn(Range<usize>) + Sync)) {
    if pieces < 2 {
        if !range.is_empty() {
            work(range);
        }
        return;
    }
    let left = pieces / 2;
    let middle = range.start + range.len() * left / pieces;
    let (first, second) = (range.start..middle, middle..range.end);
    rayon::join(|| halve(first, left, work), || halve(second, pieces - left, work));
}

/// Calls `work` on every index below `items`, on whichever thread is free: for tasks of unequal length.
pub fn tasks(items: usize, work: impl Fn(usize) + Send + Sync) {
    use rayon::prelude::*;
    (0..items).into_par_iter().with_max_len(1).for_each(work);
}

/// A buffer that several threads fill, each its own part.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    start: *mut f32,
    length: usize,
    buffer: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: all access goes through `part`, whose callers hand every element to one thread at a time.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub fn new(buffer: &'a mut [f32]) -> Self {
        Self { start: buffer.as_mut_ptr(), length: buffer.len(), buffer: std::marker::PhantomData }
    }

    /// Where element `offset` is.
    ///
    /// # Panics
    /// When there are not `length` elements from there on.
    pub fn pointer(&self, offset: usize, length: usize) -> *mut f32 {
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.length), "part of a shared buffer");
        // SAFETY: inside the buffer by the assertion.
        unsafe { self.start.add(offset) }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No two parts that overlap may be alive at once.
    ///
    /// # Panics
    /// When the range is not inside the buffer.
    pub unsafe fn part(&self, range: Range<usize>) -> &'a mut [f32] {
        // SAFETY: inside the buffer, as `pointer` asserts, and unaliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(range.start, range.len()), range.len()) }
    }
}
