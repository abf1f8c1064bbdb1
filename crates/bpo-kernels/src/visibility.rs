use std::{ops::Range, sync::OnceLock};

use burn::tensor::{Tensor, TensorData};

/// Added to the score of a key that must not be seen: its weight is exactly 0.
const HIDDEN: f32 = -1e30;

/// Which keys every query of a batch may attend to, as ranges of token indices: causal rows, padding, sliding windows,
/// several completions behind one prompt and several prompts in one row are all a few ranges per query.
#[derive(Debug)]
pub struct Visibility {
    rows: usize,
    /// Where each query's ranges start, `[queries + 1]`.
    offsets: Vec<u32>,
    /// Ascending and disjoint within a query.
    ranges: Vec<Range<u32>>,
    parts: Vec<Range<usize>>,
    /// For devices without a kernel, made when first asked for.
    bias: OnceLock<Tensor<4>>,
}

impl Visibility {
    /// A batch of `rows` rows of `time` tokens, none of which sees a token of another row. `ranges(query)` is asked for
    /// every index below `rows · time` in turn: ascending, disjoint ranges of such indices, at least one.
    ///
    /// # Panics
    /// When a query sees nothing, or a range is empty, out of order or outside the query's row.
    pub fn new<R: IntoIterator<Item = Range<usize>>>(rows: usize, time: usize, ranges: impl Fn(usize) -> R) -> Self {
        let (parts, bias) = (Vec::new(), OnceLock::new());
        let mut all = Self { rows, offsets: vec![0], ranges: Vec::new(), parts, bias };
        for query in 0..rows * time {
            let (mut seen, end) = (query / time * time, (query / time + 1) * time);
            for range in ranges(query) {
                assert!(seen <= range.start && range.start < range.end && range.end <= end, "range of visible keys");
                seen = range.end;
                all.ranges.push(range.start as u32..range.end as u32);
            }
            assert!(seen > query / time * time, "query {query} sees no key");
            all.offsets.push(all.ranges.len() as u32);
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
        let own = self.offsets[query] as usize..self.offsets[query + 1] as usize;
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

    /// `[rows, 1, group · time, time]`, on the device and in the float type of `like`: 0 where a query of any of the
    /// `group` heads of a key head may look, so low elsewhere that the weight is 0.
    pub(crate) fn bias(&self, group: usize, like: &Tensor<2>) -> Tensor<4> {
        let make = || {
            let (rows, time) = (self.rows, self.queries() / self.rows.max(1));
            let mut bias = vec![HIDDEN; rows * time * time];
            for (query, line) in bias.chunks_exact_mut(time.max(1)).enumerate() {
                let start = query / time * time;
                self.of(query).for_each(|range| line[range.start - start..range.end - start].fill(0.0));
            }
            on_device(bias, [rows, 1, time, time], like).repeat_dim(2, group)
        };
        self.bias.get_or_init(make).clone()
    }

    fn independent_parts(&self) -> Vec<Range<usize>> {
        let queries = self.queries();
        // A part may start where nothing before sees anything from there on, and nothing from there on anything before.
        let mut cuts = vec![true; queries + 1];
        let lowest: Vec<usize> = (0..queries)
            .map(|query| self.of(query).map(|range| range.start).min())
            .map(Option::unwrap_or_default)
            .collect();
        let mut farthest = 0;
        for query in 0..queries {
            cuts[query] = farthest <= query;
            farthest = self.of(query).last().map_or(farthest, |range| farthest.max(range.end));
        }
        let mut reach = queries;
        for query in (0..queries).rev() {
            cuts[query + 1] &= reach > query;
            reach = reach.min(lowest[query].min(query));
        }
        let starts: Vec<usize> = (0..queries).filter(|&query| cuts[query]).collect();
        let ends = starts.iter().skip(1).copied().chain([queries]);
        starts.iter().zip(ends).map(|(&start, end)| start..end).collect()
    }
}

/// What each row of a cache shows to that row's next query.
#[derive(Debug)]
pub struct CacheView {
    columns: Vec<Range<usize>>,
    bias: OnceLock<Tensor<4>>,
}

impl CacheView {
    /// The columns that each row sees.
    ///
    /// # Panics
    /// When a row sees none.
    pub fn new(columns: Vec<Range<usize>>) -> Self {
        assert!(columns.iter().all(|range| !range.is_empty()), "a row sees nothing of its cache");
        Self { columns, bias: OnceLock::new() }
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
        let make = || {
            let (rows, end) = (self.columns.len(), self.end());
            let mut bias = vec![HIDDEN; rows * end];
            for (range, line) in self.columns.iter().zip(bias.chunks_exact_mut(end.max(1))) {
                line[range.clone()].fill(0.0);
            }
            on_device(bias, [rows, 1, 1, end], like)
        };
        self.bias.get_or_init(make).clone()
    }
}

fn on_device(values: Vec<f32>, shape: [usize; 4], like: &Tensor<2>) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, shape), (&like.device().inner(), like.dtype()))
}

/// Attention heads: several query heads share each key-value head (Ainslie et al. 2023, arXiv:2305.13245).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads; a multiple of `key_value`.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Width of a head.
    pub dim: usize,
}

impl Heads {
    /// Query heads per key head.
    pub fn group(self) -> usize {
        self.query / self.key_value
    }

    /// The query heads that read key head `key_value`.
    #[cfg(feature = "flex")]
    pub(crate) fn of_key_value(self, key_value: usize) -> std::ops::Range<usize> {
        key_value * self.group()..(key_value + 1) * self.group()
    }
}
