package envelope

// Contexts of the key derivation (RFC 5869, section 3.2). The caller's own label is
// appended to labelSeal behind a NUL; labelKeyID stands alone, so that no caller's
// label can ever derive the bytes that are published as the key's id.
const (
	labelSeal  = "anteroom/envelope/seal/v1"
	labelKeyID = "anteroom/envelope/key-id/v1"
)
