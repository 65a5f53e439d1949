package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// record describes one sign-on for all nodes: who, with what, on which sites, and
// until when it is in use. It lies in the store sealed, under a hash of the sid,
// until its idle end. No request needs it. Times are Unix seconds.
type record struct {
	ID       string   `json:"sid"`
	Source   string   `json:"idp"`
	Subject  string   `json:"sub"`
	Username string   `json:"username,omitempty"`
	Name     string   `json:"name,omitempty"`
	Provider string   `json:"idp_sid,omitempty"`
	Roles    []string `json:"roles,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	Sites    []string `json:"sites,omitempty"`
	Browser  string   `json:"browser,omitempty"`
	System   string   `json:"system,omitempty"`
	Verify   bool     `json:"verify,omitempty"`
	Started  int64    `json:"start"`
	Seen     int64    `json:"seen"`
	Expires  int64    `json:"exp"`
	Ends     int64    `json:"end"`
}

// maxSites bounds the sites that a record names.
const maxSites = 64

func recordKey(sid string) string { return cellKey(labelRecord, sid) }

// update brings a record up to what a token of the session says. Seen and Expires
// move forward only: nodes and sites write in any order.
func (r *record) update(s *Session) {
	r.ID, r.Source, r.Subject, r.Provider = s.ID, s.Source, s.Subject, s.ProviderSession
	r.Username, r.Name, r.Roles, r.AMR = s.Username, s.Name, s.Roles, s.AMR
	r.Started, r.Ends = s.Started.Unix(), s.Ends.Unix()
	r.Verify = r.Verify || s.verify
	r.Seen, r.Expires = max(r.Seen, s.IssuedAt.Unix()), min(max(r.Expires, s.Expires.Unix()), r.Ends)
	if !slices.Contains(r.Sites, s.Audience) && len(r.Sites) < maxSites {
		r.Sites = append(r.Sites, s.Audience)
	}
}

func (r *record) names() names {
	return namesOf(r.ID, &Grant{Source: r.Source, Subject: r.Subject, Username: r.Username, ProviderSession: r.Provider}, time.Unix(r.Started, 0))
}

// isLive says whether the sign-on is neither over nor revoked.
func (m *Manager) isLive(r *record) bool {
	n := r.names()
	return m.now().Unix() < min(r.Expires, r.Ends) && m.live.over.why(&n) == notRevoked
}

func (r *record) info() Info {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	return Info{
		ID: r.ID, Source: r.Source, Subject: r.Subject, Username: r.Username, Name: r.Name,
		Roles: r.Roles, AMR: r.AMR, Sites: r.Sites, Device: Device{Browser: r.Browser, System: r.System},
		Started: at(r.Started), Seen: at(r.Seen), Expires: at(r.Expires), Ends: at(r.Ends),
	}
}

// readRecord returns the record of a sign-on, or nil, and what lies in the store.
func (m *Manager) readRecord(ctx context.Context, sid string) (*record, []byte, error) {
	var r record
	sealed, err := m.readCell(ctx, recordKey(sid), &r)
	if err != nil || sealed == nil || r.ID != sid {
		return nil, sealed, err
	}
	return &r, sealed, nil
}

// touch writes into the record that a new token of the session was made. A record
// that is gone, because the store was set back or was silent for long, comes back,
// in the account's list as well. One that is about to end is looked after in the list
// too: a node whose clock is ahead may have taken it for over and given its place away.
func (m *Manager) touch(ctx context.Context, s *Session) error {
	for round := range cellTries {
		if err := again(ctx, round); err != nil {
			return err
		}
		r, sealed, err := m.readRecord(ctx, s.ID)
		if err != nil {
			return err
		}
		uncertain := r == nil || m.now().Add(aheadAtMost).Unix() >= r.Expires
		if r == nil {
			r = &record{}
		}
		r.update(s)
		_, err = m.writeCell(ctx, recordKey(s.ID), sealed, r, time.Unix(r.Expires, 0))
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err == nil && uncertain {
			err = m.enlistAgain(ctx, s)
		}
		return err
	}
	return errBusy
}

// enlistAgain puts a sign-on whose record was gone, or may have been for others, back
// into its account's list. Who signed in meanwhile had a right to the place: where the
// limit leaves none, this sign-on goes on until its token's idle end and no longer.
func (m *Manager) enlistAgain(ctx context.Context, s *Session) error {
	err := m.enlist(ctx, s, Admission{}, m.lifetime.Of(s.Roles))
	if err != nil {
		// What is kept for its source stays: this may have been the store's fault, and
		// the next renewal may find a place.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
		defer cancel()
		if err := m.store.Delete(ctx, recordKey(s.ID)); err != nil {
			m.log.Debug("the record of a sign-on without a place stays until it is over", "error", err)
		}
	}
	return err
}

// unlist deletes what there is of a sign-on that was refused.
func (m *Manager) unlist(ctx context.Context, sid string) {
	m.forget(context.WithoutCancel(ctx), owed{Entry: revocation{Kind: labelRevoked, ID: sid}})
}

// errBusy: others kept writing for as long as it was tried.
var errBusy = fmt.Errorf("a session record keeps changing: %w", store.ErrUnavailable)

// Sessions returns the live sign-ons of one account, newest first.
func (m *Manager) Sessions(ctx context.Context, source, subject string) ([]Info, error) {
	if err := m.available(); err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	var a account
	if _, err := m.readCell(ctx, accountKey(source, subject), &a); err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	records, err := m.listedRecords(ctx, a.Sessions, m.isLive)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	return newestFirst(records), nil
}

// AllSessions returns all live sign-ons, newest first. It reads every record: it is
// for operators, not for requests.
func (m *Manager) AllSessions(ctx context.Context) ([]Info, error) {
	if err := m.available(); err != nil {
		return nil, fmt.Errorf("listing all sessions: %w", err)
	}
	records, err := m.allRecords(ctx, m.isLive)
	if err != nil {
		return nil, fmt.Errorf("listing all sessions: %w", err)
	}
	return newestFirst(records), nil
}

// allRecords reads the records that are as wanted.
func (m *Manager) allRecords(ctx context.Context, wanted func(*record) bool) (found []*record, err error) {
	items, err := m.store.List(ctx, labelRecord+"/")
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		var r record
		if err := m.openCell(ctx, item.Key, item.Value, &r); err != nil {
			// One damaged record must not hide the others.
			m.log.Warn("a session record in the store cannot be read", "key", item.Key, "error", err)
			continue
		}
		if wanted(&r) {
			found = append(found, &r)
		}
	}
	return found, nil
}

func newestFirst(records []*record) []Info {
	infos := make([]Info, 0, len(records))
	for _, r := range records {
		infos = append(infos, r.info())
	}
	slices.SortFunc(infos, func(a, b Info) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.ID, b.ID))
	})
	return infos
}
