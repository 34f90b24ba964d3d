//! Of `binary`.

use super::*;
