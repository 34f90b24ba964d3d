//! Of `ask`.

use super::*;
