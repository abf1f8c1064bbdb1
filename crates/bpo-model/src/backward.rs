use burn::tensor::{Gradients, Tensor};

use crate::{Decoder, Input};

/// What a backward pass left on the trained tensors: in one piece, or layer by layer.
pub struct Backward(Vec<Gradients>);

impl From<Gradients> for Backward {
    fn from(gradients: Gradients) -> Self {
        Self(vec![gradients])
    }
}

impl Backward {
    /// The gradient of a leaf, added up where it was used in several pieces, and no longer held here.
    pub fn take<const D: usize>(&mut self, leaf: &Tensor<D>) -> Option<Tensor<D>> {
        self.0.iter_mut().filter_map(|gradients| leaf.grad_remove(gradients)).reduce(|sum, more| sum + more)
    }
}

impl Decoder {
    /// The gradients of a scalar of the final hidden states: `top` makes it of them, together with anything else that
    /// the caller wants to know.
    ///
    /// With [`Decoder::with_gradient_checkpointing`], the forward pass keeps only what each layer reads, and every layer
    /// is computed once more on the way back (Chen et al. 2016, arXiv:1604.06174): about a third more arithmetic for
    /// memory that hardly grows with depth. Values and gradients are the same.
    ///
    /// # Errors
    /// Those of `top`.
    pub fn backward<T, E>(
        &self,
        input: &Input,
        top: impl FnOnce(Tensor<2>) -> Result<(T, Tensor<1>), E>,
    ) -> Result<(T, Backward), E> {
        if !self.gradient_checkpointing {
            let (value, scalar) = top(self.hidden(input))?;
            return Ok((value, scalar.backward().into()));
        }
        let untracked = self.untracked();
        let mut read = vec![untracked.embed(input)];
        for layer in &untracked.layers {
            let x = read[read.len() - 1].clone();
            read.push(untracked.layer(layer, x, input));
        }
        let leaf = |x: Tensor<2>| x.autodiff().require_grad();
        let mut x = leaf(read.pop().unwrap_or_else(|| untracked.embed(input)));
        let (value, scalar) = top(self.norm.forward(x.clone()))?;
        let mut pieces = vec![scalar.backward()];
        let reaches_embedding = self.embedding.is_tracked() || self.positions.as_ref().is_some_and(Tensor::is_tracked);
        for (index, (layer, below)) in self.layers.iter().zip(read).enumerate().rev() {
            let Some(slope) = pieces.last_mut().and_then(|gradients| x.grad_remove(gradients)) else { break };
            // Nothing below the first layer is trained: its input needs no gradient.
            x = if index > 0 || reaches_embedding { leaf(below) } else { below.autodiff() };
            let y = self.layer(layer, x.clone(), input);
            pieces.push((y * slope.autodiff()).sum().backward());
        }
        if reaches_embedding && let Some(slope) = pieces.last_mut().and_then(|gradients| x.grad_remove(gradients)) {
            pieces.push((self.embed(input) * slope.autodiff()).sum().backward());
        }
        Ok((value, Backward(pieces)))
    }
}
