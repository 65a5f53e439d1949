package session

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// provider is an identity source that replaces a refresh token at each use and takes the
// second use of one for theft: nobody gets in with any of that sign-on after that.
type provider struct {
	mu     sync.Mutex
	newest map[string]int // by sid
	asked  []time.Time
	inside map[string]int
	most   int // askings at once for one sign-on
	thefts int
	now    func() time.Time

	takes func(ctx context.Context, asking int) error // before it answers; an error: it answers nothing
	says  func(v *Verdict)
}

func (p *provider) refresh(ctx context.Context, s *Session, k Kept) (Verdict, error) {
	p.mu.Lock()
	if p.newest == nil {
		p.newest, p.inside = map[string]int{}, map[string]int{}
	}
	p.asked = append(p.asked, p.now())
	p.inside[s.ID]++
	p.most = max(p.most, p.inside[s.ID])
	takes, says, asking := p.takes, p.says, len(p.asked)
	p.mu.Unlock()
	var err error
	if takes != nil {
		err = takes(ctx, asking)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside[s.ID]--
	if err != nil {
		return Verdict{}, err
	}
	if n, err := strconv.Atoi(string(k.Bytes)); err != nil || n != p.newest[s.ID] {
		p.thefts++
		if k.Unsure {
			return Verdict{}, errors.New("refused, perhaps for having been asked before")
		}
		return Verdict{Gone: true}, nil
	}
	p.newest[s.ID]++
	v := Verdict{Grant: s.Grant, Keep: []byte(strconv.Itoa(p.newest[s.ID]))}
	if says != nil {
		says(&v)
	}
	return v, nil
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

func (p *provider) set(takes func(context.Context, int) error, says func(*Verdict)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takes, p.says = takes, says
}

func (p *provider) option(c *Config) { p.now, c.Refresh = c.Now, p.refresh }

var toVerify = Admission{Verify: true, Keep: []byte("0")}

// visitor is a browser with one sign-on on some sites.
type visitor struct {
	s     *Session
	sites []string
	lines map[string][]string
}

func newVisitor(t testing.TB, m *Manager, a Admission, sites ...string) *visitor {
	t.Helper()
	s, cookies := keeping(t, m, a)
	v := &visitor{s: s, sites: append([]string{host}, sites...), lines: map[string][]string{host: lines(cookies)}}
	for _, site := range sites {
		_, cookies, err := m.Join(t.Context(), s, site)
		if err != nil {
			t.Fatal(err)
		}
		v.lines[site] = lines(cookies)
	}
	return v
}

// visit makes a request of a site on a node and takes the renewed cookie.
func (v *visitor) visit(m *Manager, site string) (*Session, error) {
	s, err := m.Find(v.lines[site], site)
	if err != nil {
		return nil, err
	}
	r := m.StartRenewal(s, v.lines[site], site)
	if r == nil {
		return s, nil
	}
	<-r.done // however busy this machine is
	cookie, next, err := r.Wait(context.Background())
	if cookie == nil {
		return s, err
	}
	v.lines[site] = line(cookie.Value, secondHalf(v.lines[site]))
	return next, err
}

// inBubble runs with several nodes on one store, by a clock that goes by itself.
func inBubble(t *testing.T, n int, f func(t *testing.T, w *shared), options ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := &shared{store: openStore(t, dir, time.Now), sealer: openSealer(t, dir)}
		for range n {
			p := newProxy(w.store)
			w.proxies = append(w.proxies, p)
			w.nodes = append(w.nodes, start(t, p, w.sealer, time.Now, options...))
		}
		f(t, w)
	})
}
