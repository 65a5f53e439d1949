package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// maxListed bounds the sign-ons that an account's list names. One that falls out is
// neither counted nor shown; it ends like any, and with its account.
const maxListed = 512

// account lists the sign-ons of one account. It lies in the store sealed, under a
// hash of source and subject, and is changed by compare-and-swap: what is in it at
// any moment is what counts against the limit. A sign-on whose record is gone has
// ended.
type account struct {
	Sessions []listed `json:"sessions"`
}

type listed struct {
	ID   string `json:"sid"`
	Ends int64  `json:"end"` // seconds
}

func accountKey(source, subject string) string { return cellKey(labelList, source, subject) }

func accountID(source, subject string) shortID { return hashID(labelAccount, source, subject) }

// usernameID does not tell upper from lower case: whoever revokes a user by name
// means that person, however it is written.
func usernameID(username string) shortID {
	return hashID(labelUsername, strings.ToLower(username))
}

// enlist puts a sign-on, whose record is written, into its account's list. When
// there are as many as the limit allows, it makes room by ending the ones that
// were seen longest ago, or refuses with a [LimitError]. One that is in the list has
// its place; the list is written all the same, so that a node that is just about to
// give that place away has to look again.
func (m *Manager) enlist(ctx context.Context, s *Session, a Admission, limit Lifetime) error {
	key := accountKey(s.Source, s.Subject)
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout) // others wait for this one
	defer cancel()
	leave, err := m.queue.enter(ctx, accountID(s.Source, s.Subject))
	if err != nil {
		return err
	}
	defer leave()
	for round := range cellTries {
		if err := again(ctx, round); err != nil {
			return err
		}
		var list account
		sealed, err := m.readCell(ctx, key, &list)
		if err != nil {
			return err
		}
		held := slices.ContainsFunc(list.Sessions, func(l listed) bool { return l.ID == s.ID })
		m.prune(&list, s.ID)
		if limit.Sessions > 0 && !held {
			again, err := m.makeRoom(ctx, &list, a, limit)
			if err != nil {
				return err
			}
			if again {
				continue // what was ended is out of the list before this one is in it
			}
		}
		list.Sessions = append(list.Sessions, listed{s.ID, s.Ends.Unix()})
		if n := len(list.Sessions) - maxListed; n > 0 {
			list.Sessions = list.Sessions[n:]
		}
		last := slices.MaxFunc(list.Sessions, func(a, b listed) int { return cmp.Compare(a.Ends, b.Ends) })
		_, err = m.writeCell(ctx, key, sealed, list, time.Unix(last.Ends, 0))
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return errBusy
}

// prune drops what is over for certain, and the session itself.
func (m *Manager) prune(list *account, sid string) {
	now := m.now().Unix()
	list.Sessions = slices.DeleteFunc(list.Sessions, func(l listed) bool {
		return l.Ends <= now || l.ID == sid || m.live.isRevoked(l.ID)
	})
}

// makeRoom sees to it that one more sign-on fits under the limit. When it had to
// end some for that, the list must be read again.
func (m *Manager) makeRoom(ctx context.Context, list *account, a Admission, limit Lifetime) (again bool, err error) {
	records, err := m.listedRecords(ctx, list.Sessions, m.isLive)
	if err != nil {
		return false, err
	}
	list.Sessions = slices.DeleteFunc(list.Sessions, func(l listed) bool {
		return !slices.ContainsFunc(records, func(r *record) bool { return r.ID == l.ID })
	})
	counted := slices.DeleteFunc(records, func(r *record) bool { return r.ID == a.Replaces })
	surplus := len(counted) - limit.Sessions + 1
	if surplus <= 0 {
		return false, nil
	}
	slices.SortFunc(counted, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.Seen, b.Seen), cmp.Compare(a.Started, b.Started), cmp.Compare(a.ID, b.ID))
	})
	if !a.Move || limit.OnLimit != Move {
		e := &LimitError{OnLimit: limit.OnLimit, Limit: limit.Sessions}
		for _, r := range counted {
			e.Sessions = append(e.Sessions, r.info())
		}
		return false, e
	}
	for _, r := range counted[:surplus] {
		if err := m.end(ctx, r.ID, causeMoved); err != nil {
			return false, err
		}
	}
	return true, nil
}

// listedRecords reads the records of a list that are as wanted.
func (m *Manager) listedRecords(ctx context.Context, list []listed, wanted func(*record) bool) (found []*record, err error) {
	for _, l := range list {
		if m.live.isRevoked(l.ID) {
			continue
		}
		r, _, err := m.readRecord(ctx, l.ID)
		if err != nil {
			return nil, err
		}
		if r != nil && wanted(r) {
			found = append(found, r)
		}
	}
	return found, nil
}
