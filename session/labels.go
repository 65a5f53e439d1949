package session

// Every context in which this package seals, stores or signs something. All
// differ, so that nothing made for one purpose is ever taken for another.
const (
	// labelSealKeys is the sealer's label of the signing keys.
	labelSealKeys = "anteroom/session/seal-keys/v1"
	// labelStoreKeys is the store key under which the sealed keys lie.
	labelStoreKeys = "anteroom/session/keys/v1"
	// labelRevoked is the kind of a feed entry that ends one session.
	labelRevoked = "anteroom/session/revoked-session/v1"
	// labelFamily begins every kind of feed entry that is ours to obey.
	labelFamily = "anteroom/session/"
	// tokenType is the typ of a session token. Tokens of other profiles are
	// refused by it even when they were signed with the same key.
	tokenType = "anteroom+jwt"
)
