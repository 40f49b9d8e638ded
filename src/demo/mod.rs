//! The main job on one machine: a seed and a user cluster in namespaces.
