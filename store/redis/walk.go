package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// walkTimeout bounds one page of a walk.
	walkTimeout = 10 * time.Second
	// walkCount is how many names a server is asked for at a time while most of what it
	// has is ours: the values of so many are in memory at once. Where others' keys lie
	// between ours it is asked for up to walkMost, of which few are ours.
	walkCount, walkMost = 64, 1024
	// walkRounds bounds what one page looks at.
	walkRounds = 32
	// slots is how many slots a Cluster has.
	slots = 16384
)

// place is where a walk over all values goes on. A server's own cursor (SCAN) means
// something to the one process that gave it: its table is hashed with a seed that every
// start chooses anew. So the place names the process, and a restarted or failed-over server
// is walked from its beginning. In a Cluster a key that moves from a server that is still
// to come to one that is done would be missed: the place also has the Cluster's shape, and
// a walk in whose time slots moved begins anew.
type place struct {
	shape   string // of the Cluster, see survey; "-" for one server
	node    string // its id in the Cluster; "-" for one server
	process string // run_id
	cursor  uint64
}

const walkVersion = "w1"

func (p place) String() string {
	return strings.Join([]string{walkVersion, p.shape, p.node, p.process, strconv.FormatUint(p.cursor, 10)}, ".")
}

// parsePlace reads what String wrote, and nothing else.
func parsePlace(cursor string) (place, error) {
	if cursor == "" {
		return place{}, nil
	}
	f := strings.Split(cursor, ".")
	if len(f) == 5 && f[0] == walkVersion {
		p := place{shape: f[1], node: f[2], process: f[3]}
		var ok bool
		if p.cursor, ok = number(f[4]); ok && idForm(p.shape) && idForm(p.node) && idForm(p.process) {
			return p, nil
		}
	}
	return place{}, fmt.Errorf("scanning keys: %w: not a cursor of this store", store.ErrInvalid)
}

// idForm is "-" or an id in lower-case hex.
func idForm(s string) bool {
	return s == "-" || s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// sealedValue is a value as it lies in Redis.
type sealedValue struct {
	name string
	b    []byte
}

// walk returns a page of about limit values, expired ones too, and where to go on; a nil
// next is the end.
func (s *Store) walk(ctx context.Context, doing string, at place, limit int) (page []sealedValue, next *place, err error) {
	type result struct {
		page []sealedValue
		next *place
	}
	res, err := await(ctx, s, doing, walkTimeout, func(ctx context.Context) (result, error) {
		for try := 1; ; try++ {
			page, next, err := s.walkOnce(ctx, at, limit)
			if err == nil || try == attempts || !errors.Is(err, errMoving) && !s.worth(err, again) || !pause(ctx, try) {
				return result{page, next}, err
			}
		}
	})
	return res.page, res.next, err
}

func (s *Store) walkOnce(ctx context.Context, at place, limit int) ([]sealedValue, *place, error) {
	masters, shape, err := s.survey(ctx)
	if err != nil {
		return nil, nil, err
	}
	here := slices.IndexFunc(masters, func(m master) bool { return m.id == at.node })
	if at.shape != shape || here < 0 {
		at, here = place{shape: shape, node: masters[0].id}, 0
	}
	page, err := s.pageOf(ctx, masters[here].client, &at, limit)
	if err != nil {
		return nil, nil, err
	}
	if at.cursor != 0 {
		return page, &at, nil
	}
	if here++; here < len(masters) {
		return page, &place{shape: shape, node: masters[here].id, process: "-"}, nil
	}
	// The end, unless something moved since the walk began.
	masters, now, err := s.survey(ctx)
	if err != nil {
		return nil, nil, err
	}
	if now != shape {
		return page, &place{shape: now, node: masters[0].id, process: "-"}, nil
	}
	return page, nil, nil
}

// pageOf reads values of one server from at on, and moves at. A cursor of 0 is the end.
func (s *Store) pageOf(ctx context.Context, node *goredis.Client, at *place, limit int) ([]sealedValue, error) {
	c := node.Conn() // one connection, so that all of it is from one process
	defer func() {
		_ = c.Close() // gives it back to the pool
	}()
	info, err := c.Info(ctx, "server", "replication").Result()
	if err != nil {
		return nil, err
	}
	facts := facts(info)
	switch process := facts["run_id"]; {
	case facts["role"] != "master":
		return nil, errMoving
	case !idForm(process):
		return nil, errors.New("the server does not say which process it is")
	case process != at.process:
		at.process, at.cursor = process, 0
	}
	var page []sealedValue
	count, size := walkCount, 0
	for range walkRounds {
		names, next, err := c.Scan(ctx, at.cursor, s.prefix+nameValue+"*", int64(min(count, limit-len(page)))).Result()
		if err != nil {
			return nil, err
		}
		if len(names) < count/4 {
			count = min(2*count, walkMost)
		} else {
			count = walkCount
		}
		got, err := fetch(ctx, c, names)
		if err != nil {
			return nil, err
		}
		for _, v := range got {
			size += len(v.b)
		}
		page, at.cursor = append(page, got...), next
		if next == 0 || len(page) >= limit || size >= store.MaxPageBytes {
			break
		}
	}
	return page, nil
}

// fetch reads the values of the names; what has gone since is left out.
func fetch(ctx context.Context, c *goredis.Conn, names []string) ([]sealedValue, error) {
	all := make([]sealedValue, 0, len(names))
	for part := range slices.Chunk(names, walkCount) {
		pipe := c.Pipeline()
		got := make([]*goredis.StringCmd, len(part))
		for i, name := range part {
			got[i] = pipe.Get(ctx, name)
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		for i, name := range part {
			b, err := got[i].Bytes()
			switch {
			case err == nil:
				all = append(all, sealedValue{name, b})
			case !errors.Is(err, goredis.Nil):
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return all, nil
}

// master is a server that has keys.
type master struct {
	id     string
	client *goredis.Client
	line   string // epoch and slots
}

var errMoving = errors.New("servers or slots are changing their places: try again when that is over")

// survey returns the masters, sorted by id, and a text that is another one after slots have
// moved. While they move there is neither. Each master is asked for itself: only it knows
// of slots under way.
func (s *Store) survey(ctx context.Context) ([]master, string, error) {
	if c, ok := s.client.(*goredis.Client); ok {
		return []master{{id: "-", client: c}}, "-", nil
	}
	var mu sync.Mutex // guards all, covered
	var all []master
	covered := 0
	err := s.masters(ctx, func(ctx context.Context, node *goredis.Client) error {
		nodes, err := node.ClusterNodes(ctx).Result()
		if err != nil {
			return err
		}
		id, line, n, err := myself(nodes)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && n > 0 {
			all, covered = append(all, master{id, node, line}), covered+n
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if covered != slots {
		return nil, "", errMoving
	}
	slices.SortFunc(all, func(a, b master) int { return strings.Compare(a.id, b.id) })
	h := sha256.New()
	for _, m := range all {
		fmt.Fprintln(h, m.id, m.line)
	}
	return all, hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// myself reads a server's own line of CLUSTER NODES: its id, its epoch with its slots, and
// how many they are; none when it is no master. A slot under way is errMoving.
func myself(nodes string) (id, line string, n int, err error) {
	for l := range strings.Lines(nodes) {
		f := strings.Fields(l)
		if len(f) < 8 || !slices.Contains(strings.Split(f[2], ","), "myself") {
			continue
		}
		if !slices.Contains(strings.Split(f[2], ","), "master") {
			return "", "", 0, nil
		}
		for _, slot := range f[8:] {
			first, last, isRange := strings.Cut(slot, "-")
			if !isRange {
				last = first
			}
			from, ok := number(first)
			to, fits := number(last)
			if !ok || !fits || to < from || to >= slots {
				return "", "", 0, errMoving // "[93-<-id]": it is on its way
			}
			n += int(to - from + 1)
		}
		if !idForm(f[0]) || f[0] == "-" {
			break
		}
		return f[0], strings.Join(f[6:7], "") + " " + strings.Join(f[8:], " "), n, nil
	}
	return "", "", 0, errors.New("the server does not say what it is in the Cluster (CLUSTER NODES)")
}
