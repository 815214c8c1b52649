//! Numbers in decimal digits, without a text of their own.

/// Each number below 100.
static PAIRS: [[u8; 2]; 100] = pairs();

const fn pairs() -> [[u8; 2]; 100] {
    let mut all = [[0; 2]; 100];
    let mut n = 0u8;
    while n < 100 {
        all[n as usize] = [b'0' + n / 10, b'0' + n % 10];
        n += 1;
    }
    all
}

/// Writes a number to the end of `digits`, which has room for 20, and returns where it begins.
pub fn digits(digits: &mut [u8], mut value: u64) -> usize {
    let mut at = digits.len();
    while value >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[value as usize]);
    } else {
        at -= 1;
        digits[at] = b'0' + value as u8;
    }
    at
}

/// Appends a number.
pub fn push(out: &mut Vec<u8>, value: u64) {
    let mut room = [0; 20];
    let from = digits(&mut room, value);
    out.extend_from_slice(&room[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_the_library_writes_them(before in "[a-z]{0,3}", value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = before.clone().into_bytes();
            push(&mut out, value);
            prop_assert_eq!(out, format!("{before}{value}").into_bytes());
        }
    }
}
