// A panel's transcript in the notebook goes on being updated after the page was loaded again.
//
// Then the front end no longer knows which output a display id belongs to. The kernel writes it into the metadata of the
// transcript, and this finds the output by it. Only what the kernel that runs sends is shown.
const KEY = "piano_display_id";

const isSame = (output, data) => JSON.stringify(output.data) === JSON.stringify(data);

function update(notebook, id, { data, metadata }) {
  for (const { outputs } of notebook.cells) {
    for (let i = 0; i < (outputs?.length ?? 0); i++) {
      const output = outputs.get(i).toJSON();
      if (output.metadata?.[KEY] === id && !isSame(output, data)) outputs.set(i, { ...output, data, metadata });
    }
  }
}

export default async () => ({
  id: "piano-jupyter:transcripts",
  description: "Updates the transcripts of panels after the page was loaded again.",
  autoStart: true,
  activate: ({ docRegistry }) => {
    docRegistry.addWidgetExtension("Notebook", {
      createNew: (_, { model, sessionContext }) => {
        sessionContext.iopubMessage.connect((__, { header, content }) => {
          const id = content.transient?.display_id;
          if (header.msg_type === "update_display_data" && id && content.metadata?.[KEY] === id)
            update(model, id, content);
        });
      },
    });
  },
});
