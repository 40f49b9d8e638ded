//! Reads the configuration and the files it names, and watches them.
