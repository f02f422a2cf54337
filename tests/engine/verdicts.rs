use crate::Named;
pub(crate) const TRIALS: &[Named] = &[];
