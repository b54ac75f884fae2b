//! JSON as a wire format for tellwire messages.
