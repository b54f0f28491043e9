//! Times as people read them.

use jiff::Timestamp;

/// How long it is between two times, as kubectl shows ages: `45s`, `3m20s`, `5h`, `12d`.
pub(super) fn between(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let with = |whole: i64, unit: &str, rest: i64, smaller: &str| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{smaller}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => with(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// How long ago a time is.
pub(super) fn age(since: Option<Timestamp>) -> String {
    since.map(|since| between(since, Timestamp::now())).unwrap_or_default()
}

/// A time, and how long ago it is.
pub(super) fn at(time: Timestamp) -> String {
    format!("{} ({} ago)", second(time), age(Some(time)))
}

/// A time to the second, in UTC.
pub(super) fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn ages_are_short() {
        let long = |seconds| {
            between(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds))
        };
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (600, "10m"),
            (10_860, "3h1m"),
            (30_000, "8h"),
            (180_000, "2d2h"),
            (900_000, "10d"),
        ];
        for (seconds, shown) in cases {
            assert_eq!(long(seconds), shown);
        }
        assert_eq!(between(Timestamp::now(), Timestamp::UNIX_EPOCH), "0s", "a clock that is behind");
    }
}
