package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

// absent stands for a way to sign in that cannot work as the machine is now. The sign-in page offers it, and who chooses it is
// told that it does not answer, as if the provider were down.
type absent struct {
	name, title, prefix string
	domains             []string
	patience            time.Duration
	cause               error
}

func (a absent) Name() string            { return a.name }
func (a absent) Title() string           { return a.title }
func (a absent) UsernamePrefix() string  { return a.prefix }
func (a absent) Domains() []string       { return a.domains }
func (a absent) Patience() time.Duration { return a.patience }

func (a absent) Begin(context.Context, identity.Start) (identity.Step, error) {
	return identity.Step{}, a.failure()
}

func (a absent) Finish(context.Context, identity.Callback) (identity.Identity, error) {
	return identity.Identity{}, a.failure()
}

func (a absent) failure() error {
	return &identity.Failure{Kind: identity.ErrUnavailable, Reason: "config", Err: a.cause}
}

// Refresh says that nothing is known: a secret that is lost for a while signs nobody out.
func (a absent) Refresh(context.Context, []byte) (identity.Identity, error) {
	return identity.Identity{}, a.failure()
}

// checkBroken refuses a config in which no way to sign in is left.
func checkBroken(guests []Guest) error {
	var problems []error
	for _, g := range guests {
		b, ok := g.(interface{ Broken() error })
		if !ok || b.Broken() == nil {
			return nil
		}
		problems = append(problems, b.Broken())
	}
	if problems == nil {
		return nil
	}
	return fmt.Errorf("nobody could sign in: %w", errors.Join(problems...))
}
