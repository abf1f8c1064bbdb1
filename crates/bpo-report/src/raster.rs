//! Figures as PNG, for slides and for papers that take no SVG.

use std::sync::Arc;

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{
        Options, Tree,
        fontdb::{Database, Source},
    },
};

use crate::Error;

/// The family that figures are written in.
const FAMILY: &str = "DejaVu Sans";

/// Draws figures as PNG. It brings its fonts along: a figure is the same on every machine, fonts installed or not.
#[derive(Debug)]
pub struct Painter {
    options: Options<'static>,
}

impl Default for Painter {
    fn default() -> Self {
        let mut fonts = Database::new();
        // The condensed ones: about as wide as Helvetica, which the figures are laid out for.
        for font in [dejavu::sans_condensed::regular(), dejavu::sans_condensed::bold()] {
            fonts.load_font_source(Source::Binary(Arc::new(font)));
        }
        Self { options: Options { fontdb: Arc::new(fonts), font_family: FAMILY.to_owned(), ..Options::default() } }
    }
}

impl Painter {
    /// The drawing `svg` as the bytes of a PNG file, `scale` pixels to each of the drawing's.
    ///
    /// # Errors
    /// [`Error::Drawing`] for what is no SVG, or larger than can be held.
    pub fn png(&self, svg: &str, scale: f32) -> Result<Vec<u8>, Error> {
        let refused = |reason: String| Error::Drawing { reason };
        let tree = Tree::from_str(svg, &self.options).map_err(|error| refused(error.to_string()))?;
        let size = tree.size().to_int_size().scale_by(scale);
        let pixels = size.and_then(|size| Pixmap::new(size.width(), size.height()));
        let mut pixels = pixels.ok_or_else(|| refused(format!("{scale} times its size is no size")))?;
        resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| refused(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::svg::{Anchor, Font, Svg};

    /// Width, height and how many pixels of a PNG file are dark.
    fn inked(png: &[u8]) -> (u32, u32, usize) {
        let pixels = Pixmap::decode_png(png).unwrap();
        let inked = pixels.pixels().iter().filter(|pixel| pixel.red() < 200).count();
        (pixels.width(), pixels.height(), inked)
    }

    fn drawing(text: &str) -> String {
        let font = Font { size: 20.0, colour: "#222222", weight: 400 };
        let mut svg = Svg::new(200.0, 40.0);
        svg.text([10.0, 30.0], text, font, Anchor::Start);
        svg.finish("a text")
    }

    #[test]
    fn texts_are_drawn_without_any_font_of_the_system() {
        let painter = Painter::default();
        let ink = |text: &str| inked(&painter.png(&drawing(text), 1.0).unwrap()).2;
        assert_eq!(ink(""), 0);
        let (one, three) = (ink("l"), ink("lll"));
        assert!(one > 10 && three > 2 * one, "{one} pixels of one letter, {three} of three");
        // What titles, axes and legends are written with.
        for letter in "βπσ−·±…≤→%".chars() {
            assert!(ink(&letter.to_string()) > 2, "{letter} is not drawn");
        }
    }

    #[test]
    fn a_picture_has_the_size_that_was_asked_for() {
        let painter = Painter::default();
        let sized = |scale| inked(&painter.png(&drawing("a"), scale).unwrap());
        let ((width, height, once), (_, _, twice)) = (sized(1.0), sized(2.0));
        assert_eq!((width, height), (200, 40));
        assert_eq!((sized(2.0).0, sized(2.0).1), (400, 80));
        assert!((3 * once..6 * once).contains(&twice), "{once} dark pixels, {twice} at twice the size");
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_in_words() {
        let painter = Painter::default();
        assert!(matches!(painter.png("no drawing", 1.0), Err(Error::Drawing { .. })));
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e9] {
            assert!(painter.png(&drawing("a"), scale).is_err(), "{scale}");
        }
    }
}
