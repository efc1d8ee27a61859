//! A value that must not be seen: its `Debug` prints `***` and its memory is zeroed on drop.

use std::fmt;

use zeroize::Zeroize;

/// Holds a secret. Reading it is an explicit act ([`Secret::expose`]), so that every use can be found by name.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Never pass the result to a log, an error or a command line.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<&str> for Secret<String> {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl<'de, T: Zeroize + serde::Deserialize<'de>> serde::Deserialize<'de> for Secret<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// For `serialize_with`, on the fields by which a secret is meant to travel.
pub fn exposed<S: serde::Serializer>(secret: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes that it was zeroed: the memory itself can't be looked at once it is given back.
    struct Noted<'a>(&'a std::cell::Cell<usize>);

    impl Zeroize for Noted<'_> {
        fn zeroize(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn a_secret_is_zeroed_when_it_is_dropped_also_on_the_way_out_of_a_failure() {
        let zeroed = std::cell::Cell::new(0);
        drop(Secret::new(Noted(&zeroed)));
        assert_eq!(zeroed.get(), 1);
        let fails = || -> Result<(), &str> {
            let _secret = Secret::new(Noted(&zeroed));
            Err("on the way")?;
            Ok(())
        };
        assert!(fails().is_err() && zeroed.get() == 2);
    }

    #[test]
    fn debug_of_a_secret_shows_nothing_of_it() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
    }
}
