package identity

import (
	"context"
	"time"
)

// What follows a [Source] may do besides. Whoever uses one asks with a type
// assertion; a source that does not is not asked.

// Refresher is a Source that can be asked again about somebody who signed in.
type Refresher interface {
	// Refresh takes what the last answer kept and gives the identity as it is now,
	// with what to keep from then on. An error of kind [ErrUnavailable] means that
	// nothing is known; any other that the source does not vouch any more.
	Refresh(ctx context.Context, keep []byte) (Identity, error)
	// Patience is how long a session outlives a source that does not answer.
	Patience() time.Duration
}

// Departure is what a [Departer] needs to know of a sign-out.
type Departure struct {
	Keep      []byte // of the identity; may be nil
	ReturnURL string // where the browser may be sent back to, registered at the provider
	State     string // comes back with the browser
}

// Departer is a Source that knows where a person ends the source's own session
// (OpenID Connect RP-Initiated Logout 1.0).
type Departer interface {
	// Depart gives that address, "" when there is none.
	Depart(ctx context.Context, d Departure) (string, error)
}

// Ended is what a provider says of sessions that it ended.
type Ended struct {
	Subject string    // "" when only Session is named
	Session string    // "" when all sessions of Subject ended
	Token   string    // the message's own id; one is honoured once
	Issued  time.Time // by the provider's clock
	Expires time.Time
}

// Notified is a Source whose provider tells us of sessions that it ended (OpenID
// Connect Back-Channel Logout 1.0).
type Notified interface {
	// Logout checks a logout token. It does not know which were used before.
	Logout(ctx context.Context, token string) (Ended, error)
}

// Published is a Source with public keys that its provider fetches from us.
type Published interface {
	// JWKS is a key set (RFC 7517), nil when there are no keys.
	JWKS(ctx context.Context) ([]byte, error)
}

// Answering is a Source that can say whether its provider can be reached.
type Answering interface {
	// Answers asks the provider now, and nothing that is remembered; nil: it answers.
	Answers(ctx context.Context) error
}

// HomeRealm is a Source that people of certain e-mail domains belong to.
type HomeRealm interface {
	Domains() []string // lower case
}

// Vouched is a Source of one issuer.
type Vouched interface {
	Issuer() string
}
