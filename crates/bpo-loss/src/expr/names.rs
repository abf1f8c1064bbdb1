//! The vocabulary.

/// What is given for every pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Rho,
    Lc,
    Lr,
    Pc,
    Pr,
    LenC,
    LenR,
}

impl Variable {
    const ALL: [(&str, Self); 7] = [
        ("rho", Self::Rho),
        ("lc", Self::Lc),
        ("lr", Self::Lr),
        ("pc", Self::Pc),
        ("pr", Self::Pr),
        ("len_c", Self::LenC),
        ("len_r", Self::LenR),
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, variable)| *variable)
    }

    pub fn is_length(self) -> bool {
        matches!(self, Self::LenC | Self::LenR)
    }
}

/// The one variable that is not per pair.
pub(super) const BETA: &str = "beta";

pub(super) fn variables<'n>() -> impl Iterator<Item = &'n str> {
    Variable::ALL.iter().map(|(name, _)| *name).chain([BETA])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Sigmoid,
    LogSigmoid,
    Softplus,
    Relu,
    Exp,
    Log,
    Log1p,
    Expm1,
    Tanh,
    Abs,
    Sqrt,
    Square,
    Min,
    Max,
    Clamp,
    Where,
    Mean,
    Std,
    Var,
    Sort,
    Detach,
}

impl Function {
    const ALL: [(&str, Self); 21] = [
        ("sigmoid", Self::Sigmoid),
        ("logsigmoid", Self::LogSigmoid),
        ("softplus", Self::Softplus),
        ("relu", Self::Relu),
        ("exp", Self::Exp),
        ("log", Self::Log),
        ("log1p", Self::Log1p),
        ("expm1", Self::Expm1),
        ("tanh", Self::Tanh),
        ("abs", Self::Abs),
        ("sqrt", Self::Sqrt),
        ("square", Self::Square),
        ("min", Self::Min),
        ("max", Self::Max),
        ("clamp", Self::Clamp),
        ("where", Self::Where),
        ("mean", Self::Mean),
        ("std", Self::Std),
        ("var", Self::Var),
        ("sort", Self::Sort),
        ("detach", Self::Detach),
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    /// Number of arguments.
    pub fn arity(self) -> usize {
        match self {
            Self::Clamp | Self::Where => 3,
            Self::Min | Self::Max => 2,
            _ => 1,
        }
    }
}

pub(super) fn functions<'n>() -> impl Iterator<Item = &'n str> {
    Function::ALL.iter().map(|(name, _)| *name)
}
