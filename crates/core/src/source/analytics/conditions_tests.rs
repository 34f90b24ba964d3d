//! Of `conditions`.

use super::*;
