/** Activities that do nothing, as the baseline of the throughput benchmark. */
export const bareActivities = {
  async create(id: string): Promise<string> {
    return id;
  },
  async updateOrder(id: string): Promise<string> {
    return id;
  },
};

export type BareActivities = typeof bareActivities;
