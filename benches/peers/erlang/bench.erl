%% Measures Erlang's own distribution, with the command line, the workloads and the figures of src/lib.rs.
-module(bench).
-behaviour(gen_server).

-export([main/1]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(TELLS, 1000000).
-define(ASKS, 20000).
-define(TEXT, 92).
-define(WINDOW, 64).
%% The clock is looked at once for so many notes.
-define(CLOCK, 64).
%% Milliseconds, as in src/arrivals.rs.
-define(POLL, 10).
-define(QUIET, 5000).
-define(AT_MOST, 60000).
-define(WAIT, 10000).

main(["receive"]) ->
    Notes = spawn_link(fun() -> notes() end),
    register(notes, Notes),
    {ok, _} = gen_server:start_link({local, echo}, ?MODULE, [], []),
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}} | options()]),
    {ok, Port} = inet:port(Listener),
    io:format("~s 127.0.0.1:~b~n", [node(), Port]),
    spawn_link(fun() -> serve(Listener, Notes) end),
    ends_with_input();
main(["send", Address, ControlAt, Workload]) ->
    Node = list_to_atom(Address),
    true = net_kernel:connect_node(Node),
    [_, Port] = string:split(ControlAt, ":"),
    {ok, Control} = gen_tcp:connect({127, 0, 0, 1}, list_to_integer(Port), options()),
    io:format("~s~n", [run(Workload, Node, Control)]),
    halt(0).

%% The echo.

init([]) -> {ok, none}.

handle_call({note, _, _} = Note, _From, State) -> {reply, Note, State}.

handle_cast(_, State) -> {noreply, State}.

%% The sending side.

run("tells", Node, Control) ->
    Notes = erpc:call(Node, erlang, whereis, [notes]),
    %% The first is on its way alone, as for the others.
    say(Control, "begin 1"),
    tell(Notes, 0, 1),
    [1 | _] = report(Control),
    say(Control, io_lib:format("begin ~b", [?TELLS])),
    Before = cpu(),
    %% A process of its own, with a heap of its own, as its users have.
    together(1, fun() -> tell(Notes, 0, ?TELLS) end),
    [Arrived, Lost, Disorder, StepsBack, Doubled, Timed, Nanos, Cpu] = report(Control),
    Used = cpu() - Before,
    Each = fun(Time) -> Time div max(1, Arrived) end,
    io_lib:format(
        "sent=~b arrived=~b rate=~b lost=~b disorder=~b back=~b doubled=~b sender_ns=~b "
        "receiver_ns=~b",
        [
            ?TELLS, Arrived, per_second(Timed, Nanos), Lost, Disorder, StepsBack, Doubled,
            Each(Used), Each(Cpu)
        ]);
run("asks", Node, _Control) ->
    _ = [ask(Node, Sequence) || Sequence <- lists:seq(1, ?ASKS div 10)],
    Trips = lists:sort([ask(Node, Sequence) || Sequence <- lists:seq(1, ?ASKS)]),
    Each = ?ASKS div ?WINDOW,
    Begun = erlang:monotonic_time(nanosecond),
    together(?WINDOW, fun() -> [ask(Node, Sequence) || Sequence <- lists:seq(1, Each)] end),
    Took = erlang:monotonic_time(nanosecond) - Begun,
    io_lib:format("asks=~b p50_us=~.1f p99_us=~.1f rate64=~b", [
        ?ASKS, percentile(Trips, 50), percentile(Trips, 99), per_second(Each * ?WINDOW, Took)
    ]).

tell(_Notes, Count, Count) ->
    ok;
tell(Notes, Sequence, Count) ->
    Notes ! note(Sequence),
    tell(Notes, Sequence + 1, Count).

%% Asks once, and gives the nanoseconds it took.
ask(Node, Sequence) ->
    Begun = erlang:monotonic_time(nanosecond),
    {note, Sequence, _} = gen_server:call({echo, Node}, note(Sequence), ?WAIT),
    erlang:monotonic_time(nanosecond) - Begun.

note(Sequence) -> {note, Sequence, binary:copy(<<"x">>, ?TEXT)}.

%% Runs so many processes and waits for all of them.
together(Count, Work) ->
    Workers = [spawn_monitor(Work) || _ <- lists:seq(1, Count)],
    [receive {'DOWN', Monitor, process, Pid, normal} -> ok end || {Pid, Monitor} <- Workers].

report(Control) ->
    [list_to_integer(Figure) || Figure <- string:lexemes(say(Control, "report"), " \n")].

say(Control, Words) ->
    ok = gen_tcp:send(Control, [Words, "\n"]),
    {ok, Answer} = gen_tcp:recv(Control, 0),
    Answer.

%% The receiving side.

%% Before the first run.
notes() ->
    notes(none, 0, 0, 0, 0, {0, 0, 0}, none, {none, 0}).

%% Counts as src/arrivals.rs does. `Strange` is out of order, back and doubled; `Last` is when the clock was last looked
%% at, and how many had arrived by then.
notes(Seen, Expected, Arrived, Next, Before, Strange, First, Last) ->
    receive
        {note, Sequence, _} ->
            More = Arrived + 1,
            LastNow =
                case More rem ?CLOCK =:= 1 orelse More =:= Expected of
                    true -> {erlang:monotonic_time(nanosecond), More};
                    false -> Last
                end,
            FirstNow =
                case First of
                    none -> element(1, LastNow);
                    _ -> First
                end,
            IsSecond = atomics:exchange(Seen, Sequence + 1, 1) =:= 1,
            StrangeNow =
                if
                    IsSecond -> one_more(3, Strange);
                    Sequence >= Next -> Strange;
                    Sequence < Before -> one_more(2, one_more(1, Strange));
                    true -> one_more(1, Strange)
                end,
            NextNow = max(Next, Sequence + 1),
            notes(Seen, Expected, More, NextNow, Sequence, StrangeNow, FirstNow, LastNow);
        {count, From} ->
            From ! {counted, {Arrived, Strange, First, Last}},
            notes(Seen, Expected, Arrived, Next, Before, Strange, First, Last);
        {'begin', From, Count} ->
            From ! ready,
            notes(atomics:new(Count, []), Count, 0, 0, 0, {0, 0, 0}, none, {none, 0})
    end.

one_more(Which, Counts) -> setelement(Which, Counts, element(Which, Counts) + 1).

serve(Listener, Notes) ->
    {ok, Sender} = gen_tcp:accept(Listener),
    answer(Sender, Notes, 0, 0),
    serve(Listener, Notes).

answer(Sender, Notes, Expected, Before) ->
    case gen_tcp:recv(Sender, 0) of
        {ok, "begin " ++ Count} ->
            Tells = list_to_integer(string:trim(Count)),
            Notes ! {'begin', self(), Tells},
            receive ready -> ok end,
            ok = gen_tcp:send(Sender, "ready\n"),
            answer(Sender, Notes, Tells, cpu());
        {ok, "report\n"} ->
            Now = erlang:monotonic_time(millisecond),
            {Arrived, {Disorder, StepsBack, Doubled}, First, {Last, ByLast}} =
                settled(Notes, Expected, Now, Now, 0),
            Nanos =
                case First of
                    none -> 0;
                    _ -> Last - First
                end,
            Figures = [
                Arrived, max(0, Expected + Doubled - Arrived), Disorder, StepsBack, Doubled,
                max(0, ByLast - 1), Nanos, cpu() - Before
            ],
            ok = gen_tcp:send(Sender, [lists:join(" ", [integer_to_list(F) || F <- Figures]), "\n"]),
            answer(Sender, Notes, Expected, Before);
        {error, closed} ->
            ok
    end.

%% Waits until everything has arrived, or nothing any more.
settled(Notes, Expected, Begun, Changed, Before) ->
    Notes ! {count, self()},
    Counted = receive {counted, Counts} -> Counts end,
    Arrived = element(1, Counted),
    Now = erlang:monotonic_time(millisecond),
    Since = if Arrived =/= Before -> Now; true -> Changed end,
    if
        Arrived >= Expected; Now - Since > ?QUIET; Now - Begun > ?AT_MOST ->
            Counted;
        true ->
            timer:sleep(?POLL),
            settled(Notes, Expected, Begun, Since, Arrived)
    end.

ends_with_input() ->
    case io:get_line("") of
        eof -> halt(0);
        _ -> ends_with_input()
    end.

%% Figures.

%% Gives the processor time of this node in nanoseconds, zero where the system does not tell.
cpu() ->
    case file:read_file("/proc/self/stat") of
        {ok, Stat} ->
            BehindName = lists:last(binary:split(Stat, <<")">>, [global])),
            [User, System | _] = lists:nthtail(11, string:lexemes(BehindName, " ")),
            (binary_to_integer(User) + binary_to_integer(System)) * 10000000;
        {error, _} ->
            0
    end.

per_second(_Count, 0) -> 0;
per_second(Count, Nanos) -> round(Count * 1.0e9 / Nanos).

%% In microseconds.
percentile(Sorted, Percent) ->
    lists:nth(min(length(Sorted) * Percent div 100 + 1, length(Sorted)), Sorted) / 1.0e3.

options() -> [list, {packet, line}, {active, false}, {nodelay, true}].
