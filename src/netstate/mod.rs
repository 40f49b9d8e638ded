//! Brings the kernel's network state to what is desired, and back.
