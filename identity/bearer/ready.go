package bearer

import (
	"context"
	"errors"
	"fmt"

	"github.com/anteroom-proxy/anteroom/identity"
)

// Ready says what keeps this issuer's tokens from being judged, nil when nothing does:
// its metadata and its keys are looked up as for a token. It is for an operator who
// looks, not for requests.
func (i *Issuer) Ready(ctx context.Context) error {
	if i.answers != nil {
		// It need not know the token to show whether it knows us.
		if _, err := i.answers.fetch(ctx, "anteroom-asks-whether-it-may-ask"); errors.Is(err, identity.ErrUnavailable) {
			return err
		}
		return nil
	}
	keys, err := i.keySet(ctx)
	if err != nil {
		return err
	}
	n, err := keys.Count(ctx)
	if err == nil && n == 0 {
		err = unavailable("jwks.empty", fmt.Errorf("reading the keys of %s: %w", i.issuer, errors.New("none is usable")))
	}
	return err
}
