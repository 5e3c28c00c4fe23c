package hostile

// attacks are all there are. The first is none: what the machine itself does to a
// witness.
var attacks = []attack{
	{name: "nothing", run: leaveAlone},
	{name: "bodies without end", run: endlessBodies},
	{name: "gzip bombs", run: gzipBombs},
	{name: "deep documents", run: deepDocuments},
	{name: "documents of many values", run: manyValues},
	{name: "patches of a million elements", prepare: prepareVictim, run: hugePatches},
	{name: "applied documents", prepare: prepareVictim, run: hugeApplies},
	{name: "huge selectors and headers", run: hugeHeaders},
	{name: "headers that never end, each huge", run: endlessHeaders},
	{name: "huge lists", prepare: prepareLists, run: hugeLists},
	{name: "huge lists nobody reads", prepare: prepareLists, run: unreadLists},
	{name: "watches of huge objects", prepare: prepareLists, run: hugeWatches},
	{name: "connections without a handshake", run: silentConnections},
	{name: "slow headers", run: slowHeaders},
	{name: "slow bodies", run: slowBodies},
	{name: "idle connections", run: idleConnections},
	{name: "streams without end", run: slowStreams},
	{name: "answers nobody reads", run: unreadAnswers},
	{name: "rapid resets", run: rapidResets},
	{name: "handshakes over and over", run: manyHandshakes},
}
