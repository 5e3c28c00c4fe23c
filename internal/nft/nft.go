// Package nft puts rules into one nftables table and reads back what is there.
//
// A Conn speaks to the kernel about one table. A Change is everything that
// shall happen in one transaction: the kernel takes all of it or nothing.
// Applying the same Change twice is harmless: chains are emptied and filled
// again, sets are kept if they exist. The expressions that rules are made of
// have constructors in expr.go. The package touches no table but the one it
// was opened for, never runs the nft command and knows nothing of Kubernetes.
package nft

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// chunk is how many elements one message carries: its element list is one
	// attribute, whose length has 16 bits.
	chunk = 500
	// socketBuffer is what a whole transaction and its acknowledgements must
	// fit in; 10,000 Services take about 4 MiB. The kernel charges only what
	// is in use.
	socketBuffer = 64 << 20
)

// Family is the address family of a table.
type Family = nftables.TableFamily

// The families.
const (
	IPv4 = nftables.TableFamilyIPv4
	IPv6 = nftables.TableFamilyIPv6
)

// Conn speaks to the kernel about one table of one family, in the network
// namespace of the thread that opened it. It is safe for concurrent use.
type Conn struct {
	table *nftables.Table

	mu sync.Mutex // one conversation at a time on the socket
	nl *nftables.Conn
}

// Open connects to the kernel for the table, which need not exist: the first
// Change makes it.
func Open(family Family, table string) (*Conn, error) {
	c := &Conn{table: &nftables.Table{Family: family, Name: table}}
	nl, err := dial()
	if err != nil {
		return nil, err
	}
	c.nl = nl
	return c, nil
}

func dial() (*nftables.Conn, error) {
	nl, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(s *netlink.Conn) error {
		// Best effort: without CAP_NET_ADMIN in the first user namespace the
		// buffers stay at the system's maximum, enough for small clusters.
		_ = s.SetReadBuffer(socketBuffer)
		_ = s.SetWriteBuffer(socketBuffer)
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables socket: %w", err)
	}
	return nl, nil
}

// Close closes the socket.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nl.CloseLasting()
}

// Chain is a chain with all of its rules.
type Chain struct {
	Name  string
	Hook  *Hook // nil for a chain that is only jumped to
	Rules [][]expr.Any
}

// Hook is where a base chain hangs.
type Hook struct {
	Type     nftables.ChainType
	Hook     *nftables.ChainHook
	Priority *nftables.ChainPriority
}

// Set is a set or, with a Data type, a map.
type Set struct {
	Name    string
	Key     []nftables.SetDatatype
	Data    []nftables.SetDatatype // TypeVerdict alone for a verdict map
	Timeout bool                   // elements may expire and rules may add them
}

// Element is a member of a set or an entry of a map. Chain is the goto target
// in a verdict map. Expires is what is left of its time in a set with timeouts.
type Element struct {
	Key     []byte
	Value   []byte
	Chain   string
	Expires time.Duration
}

// Change is one transaction. Its parts happen in the order of the fields, so a
// map's entry is changed by deleting and adding it.
type Change struct {
	Sets      []Set   // made unless they exist
	NewChains []Chain // made unless they exist; rules replaced
	Delete    []Entries
	Add       []Entries
	DelChains []string
	DelSets   []string
}

// Entries are elements of one of the table's sets.
type Entries struct {
	Set      Set
	Elements []Element
}

// Empty says whether there is nothing to do.
func (ch Change) Empty() bool {
	return len(ch.Sets)+len(ch.NewChains)+len(ch.Delete)+len(ch.Add)+len(ch.DelChains)+len(ch.DelSets) == 0
}

// Apply makes the change in one transaction. One that makes sets or chains makes
// the table if need be.
// After an error nothing of it has happened.
func (c *Conn) Apply(ch Change) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.queue(ch); err != nil {
		return c.renew(err)
	}
	if err := c.nl.Flush(); err != nil {
		return c.renew(fmt.Errorf("apply to nftables table %s: %w", c.table.Name, err))
	}
	return nil
}

// renew replaces the connection after an error: answers nobody read may wait
// in it, and a library connection keeps its first encoding error for ever.
func (c *Conn) renew(cause error) error {
	_ = c.nl.CloseLasting()
	nl, err := dial()
	if err != nil {
		return errors.Join(cause, err)
	}
	c.nl = nl
	return cause
}

func (c *Conn) queue(ch Change) error {
	if ch.Empty() {
		return nil
	}
	if len(ch.Sets)+len(ch.NewChains) > 0 { // what only changes elements needs the table there
		c.nl.AddTable(c.table)
	}
	for i, s := range ch.Sets {
		set := c.set(s)
		set.ID = uint32(i + 1) // else the library counts in a variable that all connections share
		if err := c.nl.AddSet(set, nil); err != nil {
			return fmt.Errorf("add set %s: %w", s.Name, err)
		}
	}
	// Chains may go to one another: all must exist before the first rule.
	for _, k := range ch.NewChains {
		c.nl.AddChain(c.chain(k))
	}
	for _, k := range ch.NewChains {
		chain := c.chain(k)
		c.nl.FlushChain(chain)
		for _, r := range k.Rules {
			c.nl.AddRule(&nftables.Rule{Table: c.table, Chain: chain, Exprs: r})
		}
	}
	for _, e := range ch.Delete {
		if err := c.eachChunk(e, c.nl.SetDeleteElements); err != nil {
			return err
		}
	}
	for _, e := range ch.Add {
		if err := c.eachChunk(e, c.nl.SetAddElements); err != nil {
			return err
		}
	}
	for _, name := range ch.DelChains {
		c.nl.FlushChain(&nftables.Chain{Table: c.table, Name: name})
	}
	for _, name := range ch.DelChains {
		c.nl.DelChain(&nftables.Chain{Table: c.table, Name: name})
	}
	for _, name := range ch.DelSets {
		c.nl.DelSet(&nftables.Set{Table: c.table, Name: name})
	}
	return nil
}

func (c *Conn) chain(k Chain) *nftables.Chain {
	chain := &nftables.Chain{Table: c.table, Name: k.Name}
	if k.Hook != nil {
		chain.Type, chain.Hooknum, chain.Priority = k.Hook.Type, k.Hook.Hook, k.Hook.Priority
	}
	return chain
}

func (c *Conn) set(s Set) *nftables.Set {
	set := &nftables.Set{
		Table: c.table, Name: s.Name, KeyType: concat(s.Key), Concatenation: len(s.Key) > 1,
		HasTimeout: s.Timeout, Dynamic: s.Timeout, KeyByteOrder: binaryutil.BigEndian,
	}
	if len(s.Key) == 1 && (s.Key[0] == nftables.TypeMark || s.Key[0] == nftables.TypeInteger) {
		set.KeyByteOrder = binaryutil.NativeEndian
	}
	if len(s.Data) > 0 {
		set.IsMap = true
		set.DataType = concat(s.Data)
	}
	return set
}

func concat(types []nftables.SetDatatype) nftables.SetDatatype {
	if len(types) == 1 {
		return types[0]
	}
	return nftables.MustConcatSetType(types...)
}

func (c *Conn) eachChunk(e Entries, do func(*nftables.Set, []nftables.SetElement) error) error {
	set := c.set(e.Set)
	for rest := e.Elements; len(rest) > 0; {
		n := min(chunk, len(rest))
		part := make([]nftables.SetElement, n)
		for i, el := range rest[:n] {
			part[i] = nftables.SetElement{Key: el.Key, Val: el.Value, Timeout: el.Expires}
			if el.Chain != "" {
				part[i].VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: el.Chain}
			}
		}
		if err := do(set, part); err != nil {
			return fmt.Errorf("elements of %s: %w", e.Set.Name, err)
		}
		rest = rest[n:]
	}
	return nil
}

// Elements returns what is in the sets and maps now, by name. One that does
// not exist has no entry.
func (c *Conn) Elements(sets ...Set) (map[string][]Element, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names, err := c.setNames()
	if err != nil {
		return nil, c.renew(err)
	}
	out := make(map[string][]Element, len(sets))
	for _, s := range sets {
		if !slices.Contains(names, s.Name) {
			continue
		}
		found, err := c.nl.GetSetElements(c.set(s))
		if err != nil {
			return nil, c.renew(fmt.Errorf("read set %s: %w", s.Name, err))
		}
		if out[s.Name], err = elements(s, found); err != nil {
			return nil, fmt.Errorf("read set %s: %w", s.Name, err)
		}
	}
	return out, nil
}

func elements(s Set, found []nftables.SetElement) (out []Element, err error) {
	verdicts := len(s.Data) == 1 && s.Data[0] == nftables.TypeVerdict
	out = make([]Element, len(found))
	for i, f := range found {
		out[i] = Element{Key: f.Key, Value: f.Val, Expires: f.Expires}
		if verdicts {
			if out[i].Chain, err = verdictChain(f.Val); err != nil {
				return nil, err
			}
			out[i].Value = nil
		}
	}
	return out, nil
}

// verdictChain finds the chain in a verdict's attributes.
func verdictChain(b []byte) (string, error) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return "", fmt.Errorf("decode verdict: %w", err)
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_VERDICT_CHAIN {
			return string(bytes.TrimRight(ad.Bytes(), "\x00")), nil
		}
	}
	return "", ad.Err()
}

// Chains returns the names of the table's chains; none if there is no table.
func (c *Conn) Chains() ([]string, error) {
	all, err := c.ChainsOf(c.table.Family)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, k := range all {
		if k.Table.Name == c.table.Name {
			names = append(names, k.Name)
		}
	}
	return names, nil
}

// ChainsOf returns every chain of a family, other tables' too: what someone
// else drops, no rule of ours can let through.
func (c *Conn) ChainsOf(f Family) ([]*nftables.Chain, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, err := c.nl.ListChainsOfTableFamily(f)
	if err != nil {
		return nil, c.renew(fmt.Errorf("list nftables chains: %w", err))
	}
	return all, nil
}

// SetNames returns the names of the table's sets and maps; none if there is no
// table.
func (c *Conn) SetNames() ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names, err := c.setNames()
	if err != nil {
		return nil, c.renew(err)
	}
	return names, nil
}

func (c *Conn) setNames() ([]string, error) {
	tables, err := c.nl.ListTablesOfFamily(c.table.Family)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == c.table.Name }) {
		return nil, nil
	}
	sets, err := c.nl.GetSets(c.table)
	if err != nil {
		return nil, fmt.Errorf("list nftables sets: %w", err)
	}
	names := make([]string, len(sets))
	for i, s := range sets {
		names[i] = s.Name
	}
	return names, nil
}

// Remove deletes the table of both families with all that is in it. A table
// that does not exist is no error.
func Remove(table string) error {
	nl, err := dial()
	if err != nil {
		return err
	}
	defer nl.CloseLasting()
	tables, err := nl.ListTables()
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == table && (t.Family == IPv4 || t.Family == IPv6) {
			nl.DelTable(t)
		}
	}
	if err := nl.Flush(); err != nil {
		return fmt.Errorf("delete nftables table %s: %w", table, err)
	}
	return nil
}
