//! The nearest right word to a wrong one.

/// The candidate that a mistyped `word` most likely meant, or none where nothing is near.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = normal(word);
    let last = wanted.rsplit('.').next().unwrap_or(&wanted);
    let limit = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let whole = normal(candidate);
            let tail = whole.rsplit('.').next().unwrap_or(&whole);
            let by_whole = distance(&wanted, &whole);
            // A right name in the wrong section is as good a guess as one slip of the fingers.
            let by_tail = distance(last, tail);
            let tail_limit = (last.chars().count() / 3).max(1);
            let score = if by_tail <= tail_limit && tail.len() > 3 {
                by_whole.min(by_tail + 1)
            } else {
                by_whole
            };
            (score <= limit.max(tail_limit + 1)).then_some((score, by_whole, candidate))
        })
        .min_by_key(|&(score, by_whole, _)| (score, by_whole))
        .map(|(_, _, candidate)| candidate)
}

fn normal(word: &str) -> String {
    word.to_ascii_lowercase().replace('-', "_")
}

/// Optimal string alignment distance: insertions, deletions, substitutions, swapped neighbours.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(128).collect();
    let right: Vec<char> = right.chars().take(128).collect();
    let mut before_last = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let change = usize::from(left[i - 1] != right[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row[j] = best;
        }
        before_last = last;
        last = row;
    }
    last[right.len()]
}
