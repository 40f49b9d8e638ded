//! The pure half of the network state: what is desired, and the steps that lead there.
