//! The DNS forwarder, which works on bytes, against hickory-proto, which decodes them whole: they
//! must agree on every message that both take.

mod addresses;
mod answer;
mod lab;
mod question;
mod view;

pub use addresses::dns_addresses;
pub use answer::dns_answer;
pub use question::dns_question;
