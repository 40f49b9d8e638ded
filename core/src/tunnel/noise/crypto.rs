//! The primitives, as the protocol names them: Hash, Mac, Kdf, Aead, Xaead, DH.

use blake2::digest::consts::U16;
use blake2::digest::{Digest, FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use chacha20::cipher::consts::U10;
use chacha20::hchacha;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// 32 bytes that are wiped from memory when dropped.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// The length of an authentication tag.
pub(super) const TAG: usize = 16;

/// BLAKE2s of the parts in a row, 32 bytes.
pub(super) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2s256::new();
    for part in parts {
        Update::update(&mut hasher, part);
    }
    hasher.finalize().into()
}

/// Keyed BLAKE2s of the parts in a row, 16 bytes. The key has 32 bytes at most.
pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher =
        Blake2sMac::<U16>::new_from_slice(key).expect("every key here has 16 or 32 bytes");
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize_fixed().into()
}

/// HMAC (RFC 2104) over BLAKE2s.
fn hmac(key: &[u8; 32], parts: [&[u8]; 2]) -> Secret {
    let mut inner = Zeroizing::new([0x36; 64]);
    let mut outer = Zeroizing::new([0x5c; 64]);
    for (at, byte) in key.iter().enumerate() {
        inner[at] ^= byte;
        outer[at] ^= byte;
    }
    let digest = Zeroizing::new(hash(&[&inner[..], parts[0], parts[1]]));
    Zeroizing::new(hash(&[&outer[..], &digest[..]]))
}

/// HKDF (RFC 5869) with `N` keys.
pub(super) fn kdf<const N: usize>(chaining_key: &[u8; 32], input: &[u8]) -> [Secret; N] {
    let extracted = hmac(chaining_key, [input, &[]]);
    let mut keys: [Secret; N] = std::array::from_fn(|_| Zeroizing::new([0; 32]));
    for at in 0..N {
        let number = [at as u8 + 1];
        keys[at] = match at {
            0 => hmac(&extracted, [&number, &[]]),
            _ => hmac(&extracted, [&keys[at - 1][..], &number]),
        };
    }
    keys
}

/// The shared secret of two keys; `None` where the public key is a point of low order, with which
/// it would be known to everybody.
pub(super) fn agree(secret: &StaticSecret, public: &[u8; 32]) -> Option<Secret> {
    let shared = secret.diffie_hellman(&PublicKey::from(*public));
    shared
        .was_contributory()
        .then(|| Zeroizing::new(shared.to_bytes()))
}

/// A key of ChaCha20-Poly1305 (RFC 8439). Wiped from memory when dropped.
pub(super) struct Key(LessSafeKey);

impl Key {
    pub(super) fn new(bytes: &[u8; 32]) -> Self {
        Self(of(bytes))
    }

    /// Encrypts in place; returns the tag.
    pub(super) fn seal(&self, counter: u64, data: &[u8], in_out: &mut [u8]) -> [u8; TAG] {
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::from(data), in_out);
        let tag = sealed.expect("a message is far below the cipher's 256 GiB");
        let mut bytes = [0; TAG];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// Decrypts in place what has its tag at its end; `None` for what is not authentic, which is
    /// then no longer what it was.
    pub(super) fn open<'b>(
        &self,
        counter: u64,
        data: &[u8],
        in_out: &'b mut [u8],
    ) -> Option<&'b mut [u8]> {
        let opened = self
            .0
            .open_in_place(nonce(counter), Aad::from(data), in_out);
        opened.ok()
    }
}

fn of(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("its keys have 32 bytes"))
}

impl Drop for Key {
    fn drop(&mut self) {
        // ring wipes nothing; the box keeps the compiler from leaving this out.
        self.0 = of(&[0; 32]);
        std::hint::black_box(&mut self.0);
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// The key and the counter that XChaCha20-Poly1305 comes down to with this nonce
/// (draft-irtf-cfrg-xchacha-03, 2.3).
pub(super) fn extended(key: &[u8; 32], nonce: &[u8; 24]) -> (Key, u64) {
    let (first, last) = nonce.split_at(16);
    let derived = hchacha::<U10>(key.into(), first.into());
    let mut bytes = Zeroizing::new([0; 32]);
    bytes.copy_from_slice(&derived);
    let counter = u64::from_le_bytes(last.try_into().expect("8 of 24 bytes are left"));
    (Key::new(&bytes), counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(digits).collect()
    }

    #[test]
    fn hash_is_that_of_rfc_7693() {
        let expected = hex("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
        assert_eq!(hash(&[b"a", b"bc"]).to_vec(), expected);
    }

    #[test]
    fn xaead_is_that_of_the_draft() {
        // draft-irtf-cfrg-xchacha-03, A.3.1.
        let key: Vec<u8> = (0x80..=0x9f).collect();
        let nonce: Vec<u8> = (0x40..=0x57).collect();
        let mut text = *b"Ladies and Gentlemen of the class of '99: If I could offer you only one \
            tip for the future, sunscreen would be it.";
        let key = key.try_into().expect("32 bytes");
        let (key, counter) = extended(&key, &nonce.try_into().expect("24 bytes"));
        let tag = key.seal(counter, &hex("50515253c0c1c2c3c4c5c6c7"), &mut text);
        assert_eq!(text[..8], hex("bd6d179d3e83d43b"));
        assert_eq!(tag.to_vec(), hex("c0875924c1c7987947deafd8780acf49"));
    }

    #[test]
    fn a_point_of_low_order_gives_no_secret() {
        let secret = StaticSecret::from([7; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        assert!(agree(&secret, &[0; 32]).is_none());
        assert!(agree(&secret, &one).is_none());
        let other = PublicKey::from(&StaticSecret::from([8; 32]));
        assert!(agree(&secret, other.as_bytes()).is_some());
    }
}
