//! Local TCP ports that lead into the seed.
