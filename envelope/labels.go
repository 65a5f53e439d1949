package envelope

// Contexts of the key derivation (RFC 5869, section 3.2) and of what a master wraps.
// Names of rings and callers' labels stand behind a NUL; labels that take none stand
// alone, so that no caller's label can ever derive the bytes that are published as an
// id or as a check value.
const (
	labelSeal    = "anteroom/envelope/seal/v1"     // version 1: under the local master itself; the caller's label follows
	labelKeyID   = "anteroom/envelope/key-id/v1"   // the published id of a local master
	labelWrap    = "anteroom/envelope/wrap/v1"     // what the local master wraps data keys with
	labelData    = "anteroom/envelope/data/v1"     // version 2: under a data key; ring and caller's label follow
	labelCheck   = "anteroom/envelope/check/v1"    // the published check value of a data key; the ring follows
	labelRing    = "anteroom/envelope/ring/v1"     // digest of a ring, which the master vouches for; the ring's body follows
	storeKeyRing = "anteroom/envelope/ring-key/v1" // key in the store; the ring's name follows

	// Of the service; tenant, purpose and record id follow the first two, with their lengths.
	labelItem     = "anteroom/envelope/item/v1"     // a value that an application has sealed
	labelDocument = "anteroom/envelope/document/v1" // the key of a sealed stream
	labelChunks   = "anteroom/envelope/chunks/v1"   // the key of a stream's chunks, from the stream's own key
)
