package redis

// What the names of keys and the seals are made with. A change of what is stored gets
// a new version here, so that an older program never misreads a newer value.
const (
	// labelKey is hashed together with a key: the hash is its name in Redis.
	labelKey = "anteroom/store/redis/key/v1"
	// labelValue seals values, together with the name in Redis.
	labelValue = "anteroom/store/redis/value/v1"
	// labelEntry seals entries of the feed, together with the stream's name.
	labelEntry = "anteroom/store/redis/entry/v1"
	// labelProbe seals the record that tells whether all nodes have one master key.
	labelProbe = "anteroom/store/redis/probe/v1"
	// labelPlain is hashed together with the key of a Plain value.
	labelPlain = "anteroom/store/redis/plain-key/v1"
)

// Names in Redis, below the prefix and a colon. What stands in braces decides the slot
// in a Cluster.
const (
	nameValue     = ":k:"       // + hex of the hash: one value
	nameFeed      = ":{feed}:s" // the feed, a stream
	nameFeedCopy  = ":{feed}:n" // see copyBegin
	nameFeedOwner = ":{feed}:o" // whose copy it is
	nameProbe     = ":probe"    // see labelProbe
	namePlain     = ":p:"       // + hex of the hash: one value of Plain
)
