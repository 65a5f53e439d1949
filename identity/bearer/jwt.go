package bearer

import (
	"context"
	"errors"

	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
)

// verify judges a JWT access token by the issuer's keys (RFC 9068, section 4). The
// caller has seen that it names this issuer.
func (i *Issuer) verify(ctx context.Context, token *jws.Token) (facts, error) {
	// An ID token, a logout token or a session of ours is signed by a good key
	// too; its type tells it apart (RFC 8725, section 3.11).
	if !jws.TypeIs(token.Header.Typ, typeAccess) {
		return facts{}, no("token.typ")
	}
	keys, err := i.keySet(ctx)
	if err != nil {
		return facts{}, err
	}
	if err := keys.Verify(ctx, token); err != nil {
		if wrong, ok := errors.AsType[*issuer.KeyError](err); ok {
			return facts{}, no("token." + wrong.Reason)
		}
		return facts{}, err
	}
	claims, err := token.Claims()
	if err != nil {
		return facts{}, no("token.malformed")
	}
	return i.facts(claims, true, i.now())
}
