//! Of `describe`.

use super::*;
