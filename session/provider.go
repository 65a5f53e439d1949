package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// maxOpened bounds the accounts of one session of a provider. There is one, unless the
// provider names its sessions badly.
const maxOpened = 16

// opened says whose account a session of a provider is: the keys of the accounts' lists
// of sign-ons, which are hashes. It lies in the store, sealed, for as long as what
// began with that session.
type opened struct {
	Accounts []string `json:"accounts,omitempty"`
	Any      bool     `json:"any,omitempty"` // of more than are told apart
	Lives    int64    `json:"lives"`         // seconds
}

// of says whether the session may be that of the account.
func (o *opened) of(account string) bool {
	return o.Any || len(o.Accounts) == 0 || slices.Contains(o.Accounts, account)
}

func openedKey(provider string) string { return cellKey(labelOpened, provider) }

// noteProvider notes whose account the provider's session of a new sign-on is.
func (m *Manager) noteProvider(ctx context.Context, s *Session) error {
	if s.ProviderSession == "" {
		return nil
	}
	key, account := openedKey(s.ProviderSession), accountKey(s.Source, s.Subject)
	for round := range cellTries {
		if err := again(ctx, round); err != nil {
			return err
		}
		var o opened
		sealed, err := m.readCell(ctx, key, &o)
		if err != nil && sealed == nil {
			return err
		}
		if err != nil {
			o = opened{} // damaged; written anew
		}
		known := o.Any || slices.Contains(o.Accounts, account)
		if known && o.Lives >= s.Ends.Unix() {
			return nil
		}
		switch {
		case known:
		case len(o.Accounts) < maxOpened:
			o.Accounts = append(o.Accounts, account)
		default:
			o.Any = true
		}
		o.Lives = max(o.Lives, s.Ends.Unix())
		_, err = m.writeCell(ctx, key, sealed, o, time.Unix(o.Lives, 0))
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return errBusy
}

// RevokeProviderSession ends every session that began, or will begin, with this
// session of the provider (OpenID Connect Back-Channel Logout 1.0). subject is whose
// session it is, or "" when the provider does not say; when it is known to be another
// one's nothing ends, and the error is [ErrGrant]. A session that nobody knows is no
// error. What is said of [Manager.Revoke] holds here too. An error besides ErrGrant and
// [ErrClosed] means, with a [Config.Journal], "not everywhere yet": it holds on this
// node, and everywhere as soon as the store is back.
func (m *Manager) RevokeProviderSession(ctx context.Context, source, sid, subject string) error {
	if source == "" || sid == "" {
		return errors.New("revoking provider session: a source and a session id are required")
	}
	if err := m.revoking(); err != nil {
		return fmt.Errorf("revoking provider session: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	o := owed{Entry: revocation{Kind: labelRevokedProvider, Key: providerSession(source, sid), Until: m.until().Unix()}}
	if subject != "" {
		o.List = accountKey(source, subject)
	}
	err := m.isAnothers(ctx, o)
	if err == nil {
		if err = m.enact(ctx, o.Entry); err == nil {
			m.forget(ctx, o)
			return nil
		}
	}
	if !errors.Is(err, ErrGrant) {
		if subject != "" && m.live.isAnothers(parseID(o.Entry.Key), accountID(source, subject)) {
			err = errAnothers
		} else {
			m.putOff(ctx, o.List, o.Entry)
		}
	}
	return fmt.Errorf("revoking provider session: %w", err)
}

var errAnothers = fmt.Errorf("the provider's session is another subject's: %w", ErrGrant)

// isAnothers says whether a session of the provider is known to be of another account
// than the one that it was named with.
func (m *Manager) isAnothers(ctx context.Context, o owed) error {
	if o.List == "" {
		return nil
	}
	var known opened
	sealed, err := m.readCell(ctx, openedKey(o.Entry.Key), &known)
	if err != nil && sealed == nil {
		return err
	}
	if err != nil {
		m.log.Warn("whose a provider's session is cannot be read in the store; it ends", "error", err)
		return nil
	}
	if !known.of(o.List) {
		return errAnothers
	}
	return nil
}

// isAnothers is the same for what this node has seen, when the store does not say.
func (r *registry) isAnothers(provider, account shortID) (found bool) {
	for i := range r.shards {
		shard := &r.shards[i]
		shard.mu.RLock()
		for _, l := range shard.lives {
			if l.names.ids[byProvider] != provider {
				continue
			}
			if l.names.ids[byAccount] == account {
				shard.mu.RUnlock()
				return false
			}
			found = true
		}
		shard.mu.RUnlock()
	}
	return found
}

// providerSession is what a token holds of a provider's session id.
func providerSession(source, sid string) string {
	return hashID(labelProvider, source, sid).String()
}
