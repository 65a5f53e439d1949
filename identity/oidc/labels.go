package oidc

// The labels of this package. A value that was sealed or stored for one purpose
// never opens as another one.
const (
	// labelClientKey seals the made key for private_key_jwt, and is the prefix
	// of the store key that it lies under.
	labelClientKey = "anteroom/oidc/client-key/v1"

	// labelDPoPKey is the same for the key that our DPoP proofs are made with.
	labelDPoPKey = "anteroom/oidc/dpop-key/v1"

	// labelKeyID separates the hash that names one client's key in the store.
	labelKeyID = "anteroom/oidc/key-id/v1"
)
