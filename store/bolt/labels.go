package bolt

// The buckets of the file. A change of what stands in one of them gets a new
// version here, so that an older program never misreads a newer file.
const (
	labelKeys = "anteroom/bolt/keys/v1" // key -> expiry (8 bytes) ‖ value
	labelFeed = "anteroom/bolt/feed/v1" // sequence (8 bytes, big-endian) -> expiry (8 bytes) ‖ value
)
