//! Of `copy`.

use super::*;
