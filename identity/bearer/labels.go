package bearer

// Every context in which this package stores or hashes something. All differ.
const (
	// labelProof begins the store keys of proofs that were used, and is hashed
	// with what makes a proof one.
	labelProof = "anteroom/bearer/proof/v1"

	// typeAccess is the typ of an access token (RFC 9068, section 2.1), typeProof
	// of a proof (RFC 9449, section 4.2).
	typeAccess = "at+jwt"
	typeProof  = "dpop+jwt"
)
