use proptest::prelude::*;

use super::*;
use crate::Error;

const PAD: u32 = 999;

/// What predicts one token: the sequence, the token, and the (id, position) pairs in view.
type Seen = (u32, u32, Vec<(u32, u32)>);

fn seen(layout: &Layout) -> Vec<Seen> {
    let place = |row: u32, time: usize| row as usize * layout.time + time;
    let each = layout.targets.iter().map(|target| {
        let context = (0..layout.time)
            .filter(|&key| layout.may_attend(target.row as usize, target.time as usize, key))
            .map(|key| {
                let at = place(target.row, key);
                (layout.ids[at], layout.positions[at])
            })
            .collect();
        (target.sequence, target.token, context)
    });
    each.collect()
}

type Owned = Vec<(Vec<u32>, Vec<Vec<u32>>)>;

fn groups(owned: &Owned) -> Vec<Group<'_>> {
    let group = |(prompt, completions): &'_ (Vec<u32>, Vec<Vec<u32>>)| (prompt.len(), completions.len());
    debug_assert!(owned.iter().map(group).all(|(p, c)| p > 0 && c > 0));
    owned
        .iter()
        .map(|(prompt, completions)| Group { prompt, completions: completions.iter().map(Vec::as_slice).collect() })
        .collect()
}

fn batches() -> impl Strategy<Value = Owned> {
    let ids = |from| prop::collection::vec(0_u32..50, from..7);
    let group = (ids(1), prop::collection::vec(ids(0), 1..4));
    prop::collection::vec(group, 1..7)
}

proptest! {
    #[test]
    fn the_three_layouts_predict_the_same_tokens_from_the_same_contexts(
        owned in batches(), max_time in 0_usize..40,
    ) {
        let groups = groups(&owned);
        let padded = padded(&groups, PAD).unwrap();
        let shared = shared_prefix(&groups, PAD).unwrap();
        let packed = packed(&groups, PAD, max_time).unwrap();
        let expected = seen(&padded);
        prop_assert_eq!(&seen(&shared), &expected);
        prop_assert_eq!(&seen(&packed), &expected);
        prop_assert!(padded.sequences == shared.sequences && shared.sequences == packed.sequences);
        prop_assert!(padded.is_plain());
    }

    #[test]
    fn contexts_are_the_prompt_and_the_completion_so_far(owned in batches()) {
        let mut expected = Vec::new();
        for (sequence, (prompt, completion)) in (0..).zip(
            owned.iter().flat_map(|(p, completions)| completions.iter().map(move |c| (p, c)))
        ) {
            for (length, &token) in completion.iter().enumerate() {
                let context = prompt.iter().chain(&completion[..length]).copied().zip(0..).collect();
                expected.push((sequence, token, context));
            }
        }
        prop_assert_eq!(seen(&shared_prefix(&groups(&owned), PAD).unwrap()), expected);
    }

    #[test]
    fn every_layout_is_well_formed(owned in batches(), max_time in 0_usize..40) {
        let groups = groups(&owned);
        let total: usize = owned.iter().map(|(p, cs)| p.len() + cs.concat().len()).sum();
        let longest = owned.iter().map(|(p, cs)| p.len() + cs.concat().len()).max().unwrap();
        let packed = packed(&groups, PAD, max_time).unwrap();
        prop_assert!(packed.time <= max_time.max(longest));
        prop_assert_eq!(packed.segments.iter().filter(|s| **s != Segment::PAD).count(), total);
        for layout in [padded(&groups, PAD).unwrap(), shared_prefix(&groups, PAD).unwrap(), packed] {
            let places = layout.rows * layout.time;
            prop_assert_eq!([layout.ids.len(), layout.positions.len(), layout.segments.len()], [places; 3]);
            for (row, segments) in layout.segments.chunks(layout.time).enumerate() {
                let used = segments.iter().take_while(|s| **s != Segment::PAD).count();
                prop_assert!(used > 0 && segments[used..].iter().all(|s| *s == Segment::PAD));
                let start = row * layout.time;
                prop_assert!(layout.ids[start + used..start + layout.time].iter().all(|id| *id == PAD));
                prop_assert!((used..layout.time).all(|q| !layout.may_attend(row, q, q)));
                prop_assert!((0..used).all(|q| layout.may_attend(row, q, q)));
            }
        }
    }

    #[test]
    fn packing_is_deterministic_and_never_uses_more_rows(owned in batches(), max_time in 0_usize..40) {
        let groups = groups(&owned);
        let first = packed(&groups, PAD, max_time).unwrap();
        prop_assert_eq!(&first, &packed(&groups, PAD, max_time).unwrap());
        prop_assert!(first.rows <= groups.len());
    }
}

#[test]
fn a_shared_row_is_prompt_then_completions_with_restarted_positions() {
    let owned = vec![(vec![7, 8], vec![vec![1, 2], vec![], vec![3]])];
    let layout = shared_prefix(&groups(&owned), PAD).unwrap();
    assert_eq!(layout.ids, [7, 8, 1, 2, 3]);
    assert_eq!(layout.positions, [0, 1, 2, 3, 2]);
    let branches: Vec<u32> = layout.segments.iter().map(|s| s.branch).collect();
    assert_eq!(branches, [0, 0, 1, 1, 3]);
    let targets: Vec<_> = layout.targets.iter().map(|t| (t.time, t.token, t.sequence)).collect();
    assert_eq!(targets, [(1, 1, 0), (2, 2, 0), (1, 3, 2)]);
    assert_eq!(layout.sequences, 3);
    assert!(!layout.is_plain());
}

#[test]
fn packing_puts_the_longest_first_and_fills_gaps() {
    let group = |n: usize| (vec![0; n - 1], vec![vec![1]]);
    let owned = vec![group(3), group(6), group(4), group(9), group(4)];
    let layout = packed(&groups(&owned), PAD, 8).unwrap();
    let rows: Vec<Vec<u32>> = layout
        .segments
        .chunks(layout.time)
        .map(|row| {
            let mut groups: Vec<u32> = row.iter().filter(|s| **s != Segment::PAD).map(|s| s.group).collect();
            groups.dedup();
            groups
        })
        .collect();
    assert_eq!(rows, [vec![3], vec![1], vec![2, 4], vec![0]]);
    assert_eq!((layout.rows, layout.time), (4, 9));
}

#[test]
fn plain_rows_are_one_prompt_and_at_most_one_completion() {
    let one = vec![(vec![1], vec![vec![2]]), (vec![1, 2], vec![vec![]])];
    assert!(shared_prefix(&groups(&one), PAD).unwrap().is_plain());
    assert!(packed(&groups(&one), PAD, 2).unwrap().is_plain());
    assert!(!packed(&groups(&one), PAD, 4).unwrap().is_plain());
    let two = vec![(vec![1], vec![vec![2], vec![3]])];
    assert!(padded(&groups(&two), PAD).unwrap().is_plain());
    assert!(!shared_prefix(&groups(&two), PAD).unwrap().is_plain());
}

#[test]
fn branches_do_not_see_each_other_and_padding_sees_nothing() {
    let (a, b) = (Segment { group: 0, branch: 1 }, Segment { group: 0, branch: 2 });
    assert!(a.sees(a) && a.sees(Segment::trunk(0)) && !a.sees(b));
    assert!(!Segment::trunk(0).sees(a) && !a.sees(Segment::trunk(1)));
    assert!(!Segment::PAD.sees(Segment::PAD) && !a.sees(Segment::PAD));
}

#[test]
fn batches_that_cannot_be_laid_out_are_errors() {
    let bad: [&[Group<'_>]; 3] =
        [&[], &[Group { prompt: &[], completions: vec![&[1]] }], &[Group { prompt: &[1], completions: vec![] }]];
    for groups in bad {
        assert!(matches!(padded(groups, PAD), Err(Error::Layout(_))));
        assert!(matches!(shared_prefix(groups, PAD), Err(Error::Layout(_))));
        assert!(matches!(packed(groups, PAD, 8), Err(Error::Layout(_))));
    }
}

#[test]
fn places_outside_the_batch_attend_to_nothing() {
    let owned = vec![(vec![1], vec![vec![2]])];
    let layout = padded(&groups(&owned), PAD).unwrap();
    assert!(!layout.may_attend(1, 0, 0) && !layout.may_attend(0, 2, 0) && !layout.may_attend(0, 0, 1));
}
