//! An encoder's weights by name, and the layers that an adapter can be attached to.
use burn::tensor::Tensor;

use super::{Encoder, layer::Layer};
use crate::{linear::Linear, norm::Norm};

impl Encoder {
    /// Linear layers of the body, in the order in which it computes them.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(Layer::linears)
    }

    /// As [`Encoder::linears`].
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(Layer::linears_mut)
    }

    /// Whether a weight is the head's.
    pub fn is_of_head(&self, name: &str) -> bool {
        self.config.names.is_of_head(name)
    }

    /// Modules that hold the head, as PEFT names them.
    pub fn head_modules(&self) -> &'static [&'static str] {
        self.config.names.head_modules
    }

    /// Calls `f` with every weight, vectors as `[1, n]`, and whether files hold it as a matrix; where it returns one,
    /// that replaces it.
    pub fn for_each_weight(&mut self, mut f: impl FnMut(&str, &Tensor<2>, bool) -> Option<Tensor<2>>) {
        let names = self.config.names;
        let mut vector = |name: String, weight: &mut Tensor<1>| {
            if let Some(new) = f(&name, &weight.clone().unsqueeze::<2>(), false) {
                *weight = new.squeeze_dim(0);
            }
        };
        let of_distances = self.distances.iter_mut().filter_map(|distances| distances.norm.as_mut());
        let norms = self.layers.iter_mut().flat_map(Layer::norms_mut).chain(of_distances).chain([&mut self.norm]);
        norms.flat_map(|norm: &mut Norm| norm.weights_mut()).for_each(|(name, weight)| vector(name, weight));
        for linear in self.layers.iter_mut().flat_map(Layer::linears_mut).chain([&mut self.dense, &mut self.out]) {
            let path = linear.path.clone();
            if let Some(bias) = &mut linear.bias {
                vector(format!("{path}.bias"), bias);
            }
        }
        for linear in self.layers.iter_mut().flat_map(Layer::linears_mut).chain([&mut self.dense, &mut self.out]) {
            if let Some(new) = f(&format!("{}.weight", linear.path), &linear.weight, true) {
                linear.weight = new;
            }
        }
        let embeddings = |name: &str| format!("{}.{name}.weight", names.embeddings);
        let tables = [
            (embeddings("word_embeddings"), Some(&mut self.words)),
            (embeddings("position_embeddings"), self.positions.as_mut()),
            (embeddings("token_type_embeddings"), self.types.as_mut()),
            (
                format!("{}.rel_embeddings.weight", names.encoder),
                self.distances.as_mut().map(|distances| &mut distances.table),
            ),
        ];
        for (name, table) in tables {
            let Some(table) = table else { continue };
            if let Some(new) = f(&name, table, true) {
                *table = new;
            }
        }
    }
}
