use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Added to the score of a key that must not be seen: its weight is exactly 0.
const HIDDEN: f32 = -1e30;

/// Which keys every query of a batch may attend to, as ranges of token indices: causal rows, padding, sliding windows,
/// several completions behind one prompt and several prompts in one row are all a few ranges per query.
#[derive(Debug)]
pub struct Visibility {
    rows: usize,
    /// Where each query's ranges start, `[queries + 1]`.
    offsets: Vec<usize>,
    /// Ascending and disjoint within a query.
    ranges: Vec<Range<u32>>,
    parts: Vec<Range<usize>>,
    biases: Biases,
}

impl Visibility {
    /// A batch of `rows` rows of `time` tokens, none of which sees a token of another row. `ranges(query)` is asked for
    /// every index below `rows · time` in turn: ascending, disjoint ranges of such indices, at least one.
    ///
    /// # Panics
    /// When a query sees nothing, or a range is empty, out of order or outside the query's row.
    pub fn new<R: IntoIterator<Item = Range<usize>>>(rows: usize, time: usize, ranges: impl Fn(usize) -> R) -> Self {
        let tokens = rows.checked_mul(time).and_then(|tokens| u32::try_from(tokens).ok());
        assert!(tokens.is_some_and(|tokens| tokens > 0), "a batch of {rows} rows of {time} tokens");
        let (parts, biases) = (Vec::new(), Biases::default());
        let mut all = Self { rows, offsets: vec![0], ranges: Vec::new(), parts, biases };
        for query in 0..rows * time {
            let (mut seen, end) = (query / time * time, (query / time + 1) * time);
            for range in ranges(query) {
                assert!(seen <= range.start && range.start < range.end && range.end <= end, "range of visible keys");
                seen = range.end;
                all.ranges.push(range.start as u32..range.end as u32);
            }
            assert!(seen > query / time * time, "query {query} sees no key");
            all.offsets.push(all.ranges.len());
        }
        all.parts = all.independent_parts();
        all
    }

    /// How many queries there are.
    pub fn queries(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The keys that `query` sees.
    pub fn of(&self, query: usize) -> impl Iterator<Item = Range<usize>> {
        let own = self.offsets[query]..self.offsets[query + 1];
        self.ranges[own].iter().map(|range| range.start as usize..range.end as usize)
    }

    /// Stretches of tokens of which none sees a token of another.
    pub fn parts(&self) -> &[Range<usize>] {
        &self.parts
    }

    /// How many rows the batch has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// `[rows, 1, 1, time, time]`, on the device and in the float type of `like`: 0 where a query may look, so low
    /// elsewhere that the weight is 0.
    pub(crate) fn bias(&self, like: &Tensor<2>) -> Tensor<5> {
        let (rows, time) = (self.rows, self.queries() / self.rows);
        let make = || {
            let mut bias = vec![HIDDEN; rows * time * time];
            for (query, line) in bias.chunks_exact_mut(time).enumerate() {
                let start = query / time * time;
                self.of(query).for_each(|range| line[range.start - start..range.end - start].fill(0.0));
            }
            bias
        };
        self.biases.get(like, make).reshape([rows, 1, 1, time, time])
    }

    /// A part may start where no query before sees a key from there on, and no query from there on one before.
    fn independent_parts(&self) -> Vec<Range<usize>> {
        let queries = self.queries();
        let seen = |query: usize| {
            let first = self.of(query).next().map_or(query, |range| range.start);
            let end = self.of(query).last().map_or(query, |range| range.end);
            first..end
        };
        // The first key that any query from here on sees.
        let mut reach: Vec<usize> = (0..queries).map(|query| seen(query).start).collect();
        for query in (1..queries).rev() {
            reach[query - 1] = reach[query - 1].min(reach[query]);
        }
        let mut farthest = 0;
        let mut starts = Vec::new();
        for (query, reach) in reach.into_iter().enumerate() {
            if farthest <= query && query <= reach {
                starts.push(query);
            }
            farthest = farthest.max(seen(query).end);
        }
        let ends = starts.iter().skip(1).copied().chain([queries]);
        starts.iter().zip(ends).map(|(&start, end)| start..end).collect()
    }
}

/// What each row of a cache shows to that row's next query.
#[derive(Debug)]
pub struct CacheView {
    columns: Vec<Range<usize>>,
    biases: Biases,
}

impl CacheView {
    /// The columns that each row sees.
    ///
    /// # Panics
    /// When a row sees none.
    pub fn new(columns: Vec<Range<usize>>) -> Self {
        assert!(columns.iter().all(|range| !range.is_empty()), "a row sees nothing of its cache");
        Self { columns, biases: Biases::default() }
    }

    /// The columns that each row sees.
    pub fn columns(&self) -> &[Range<usize>] {
        &self.columns
    }

    /// One more than the last column that any row sees.
    pub fn end(&self) -> usize {
        self.columns.iter().map(|range| range.end).max().unwrap_or(0)
    }

    /// As [`Visibility::bias`], `[rows, 1, 1, end]`.
    pub(crate) fn bias(&self, like: &Tensor<2>) -> Tensor<4> {
        let (rows, end) = (self.columns.len(), self.end());
        let make = || {
            let mut bias = vec![HIDDEN; rows * end];
            for (range, line) in self.columns.iter().zip(bias.chunks_exact_mut(end)) {
                line[range.clone()].fill(0.0);
            }
            bias
        };
        self.biases.get(like, make).reshape([rows, 1, 1, end])
    }
}

/// A mask as it is added to scores, for devices without a kernel: made once for each device and float type.
#[derive(Debug, Default)]
struct Biases(Mutex<Vec<(Device, DType, Tensor<1>)>>);

impl Biases {
    fn get(&self, like: &Tensor<2>, make: impl FnOnce() -> Vec<f32>) -> Tensor<1> {
        let (device, dtype) = (like.device().inner(), like.dtype());
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, bias)) = made.iter().find(|(on, of, _)| *on == device && *of == dtype) {
            return bias.clone();
        }
        let values = make();
        let length = values.len();
        let bias = Tensor::from_data(TensorData::new(values, [length]), (&device, dtype));
        made.push((device, dtype, bias.clone()));
        bias
    }
}

/// Attention heads: several query heads share each key-value head (Ainslie et al. 2023, arXiv:2305.13245).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    query: usize,
    key_value: usize,
    dim: usize,
}

impl Heads {
    /// `query` query heads over `key_value` heads of keys and values, each `dim` wide.
    ///
    /// # Panics
    /// When there are no heads, a head has no width, or the query heads cannot be shared out evenly.
    pub fn new(query: usize, key_value: usize, dim: usize) -> Self {
        assert!(key_value > 0 && query > 0 && query.is_multiple_of(key_value), "{query} heads over {key_value}");
        assert!(query.checked_mul(dim).is_some_and(|width| width > 0), "{query} heads of width {dim}");
        Self { query, key_value, dim }
    }

    /// Query heads.
    pub fn query(self) -> usize {
        self.query
    }

    /// Heads of keys and values.
    pub fn key_value(self) -> usize {
        self.key_value
    }

    /// Width of a head.
    pub fn dim(self) -> usize {
        self.dim
    }

    /// Query heads per key head.
    pub fn group(self) -> usize {
        self.query / self.key_value
    }

    pub(crate) fn query_width(self) -> usize {
        self.query * self.dim
    }

    pub(crate) fn key_value_width(self) -> usize {
        self.key_value * self.dim
    }

    /// The query heads that read key head `key_value`.
    #[cfg(feature = "flex")]
    pub(crate) fn of_key_value(self, key_value: usize) -> std::ops::Range<usize> {
        key_value * self.group()..(key_value + 1) * self.group()
    }
}
