package redis

// Labels of the files, see labels.go.
const (
	// labelFileName is hashed together with a file's name: the hash is its name in Redis.
	labelFileName = "anteroom/store/redis/file-name/v1"
	// labelFile seals a file's content, together with its name in Redis.
	labelFile = "anteroom/store/redis/file/v1"
	// labelFileEntry seals what the index says of a file, together with its name in Redis.
	labelFileEntry = "anteroom/store/redis/file-entry/v1"
	// labelLock is hashed together with a lock's name: the hash is its name in Redis.
	labelLock = "anteroom/store/redis/lock/v1"
)

// Names of the files in Redis. The tag in braces keeps index and contents in one slot of a Cluster, so that both change in one
// transaction.
const (
	nameFile      = ":{files}:f:" // + hex of the hash: one file
	nameFileIndex = ":{files}:i"  // a hash: hex of a name's hash → entry
	nameLock      = ":l:"         // + hex of the hash: one lock
)
